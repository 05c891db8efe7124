// The page of `bert-lora serve`. Every text reaches the page as textContent, never as markup.
"use strict";

const byId = (id) => document.getElementById(id);
const LONGEST = 24; // characters of a word in the list of the strongest
const percent = (share) => `${(100 * share).toFixed(1)} %`;
const signed = (number, digits) => {
  const shown = Math.abs(number).toFixed(digits);
  if (Number(shown) === 0) return shown;
  return `${number > 0 ? "+" : "−"}${shown}`;
};
let info = null;
let latest = 0; // number of the last question: a late answer to an earlier one is dropped

function element(name, className, text) {
  const made = document.createElement(name);
  if (className) made.className = className;
  if (text !== undefined) made.textContent = text;
  return made;
}

async function ask(path, body) {
  const options = body && {
    method: "POST",
    headers: { "Content-Type": "application/json" },
    body: JSON.stringify(body),
  };
  let response;
  try {
    response = await fetch(path, options);
  } catch {
    throw new Error("The server does not answer. Is it still running?");
  }
  const content = await response.json().catch(() => null);
  if (!content) throw new Error(`The server answers ${response.status}. Try again later.`);
  if (!response.ok) throw new Error(`${content.error}: ${content.fix}.`);
  return content;
}

function classTable(title, answer) {
  const table = element("table", "classes");
  table.append(element("caption", "unseen", `Probabilities of ${title}`));
  const body = element("tbody");
  for (const [label, share] of Object.entries(answer.probabilities)) {
    const row = element("tr");
    const name = element("th", "", label);
    name.scope = "row";
    const bar = element("td");
    const meter = element("meter");
    meter.min = 0;
    meter.max = 1;
    meter.value = share;
    meter.setAttribute("aria-hidden", "true"); // the number beside it says the same
    bar.append(meter);
    row.append(name, bar, element("td", "number", percent(share)));
    body.append(row);
  }
  table.append(body);
  return table;
}

function card(id, title, answer) {
  const made = element("section", "card");
  made.id = `answer-${id}`;
  const heading = element("h3", "", title);
  heading.id = `title-${id}`;
  made.setAttribute("aria-labelledby", heading.id);
  const line = element("p", "answer", `${answer.label}, ${percent(answer.probability)}`);
  made.append(heading, line, classTable(title, answer));
  if (answer.cut) {
    made.append(element("p", "quiet", `Only the first ${info.model.max_length} tokens are read.`));
  }
  return made;
}

function showAnswers(answer) {
  const answers = byId("answers");
  answers.replaceChildren();
  if (answer.base) answers.append(card("base", "Base", answer.base));
  answers.append(card("model", answer.base ? "Adapter" : "Model", answer));
  byId("legend").hidden = true;
  byId("results").hidden = false;
  const base = answer.base ? `Base: ${answer.base.label}, ${percent(answer.base.probability)}. ` : "";
  const name = answer.base ? "Adapter" : "Model";
  byId("status").textContent = `${base}${name}: ${answer.label}, ${percent(answer.probability)}.`;
}

function strength(score, largest) {
  const share = largest > 0 ? Math.abs(score) / largest : 0;
  if (share < 0.1) return 1;
  if (share < 0.35) return 2;
  return share < 0.7 ? 3 : 4;
}

function showWords(id, text, explained) {
  const place = byId(`answer-${id}`);
  const largest = Math.max(...explained.words.map((word) => Math.abs(word.score)), 0);
  const shown = element("p", "text");
  // Positions count characters; JavaScript's strings count UTF-16 units.
  const characters = Array.from(text);
  let at = 0;
  for (const word of explained.words) {
    shown.append(characters.slice(at, word.start).join(""));
    const level = strength(word.score, largest);
    const kind = level === 1 ? "weak" : word.score > 0 ? "for" : "against";
    shown.append(
      element("span", `word ${kind} s${level}`, characters.slice(word.start, word.end).join("")),
    );
    at = word.end;
  }
  shown.append(characters.slice(at).join(""));
  const strongest = [...explained.words]
    .sort((one, other) => Math.abs(other.score) - Math.abs(one.score))
    .slice(0, 5)
    .map((word) => {
      const name = characters.slice(word.start, Math.min(word.end, word.start + LONGEST)).join("");
      return `${name}${word.end - word.start > LONGEST ? "…" : ""} ${signed(word.score, 2)}`;
    });
  place.append(shown, element("p", "quiet", `Strongest: ${strongest.join(", ")}.`));
}

function showError(error) {
  byId("message").textContent = error.message;
  byId("message").hidden = false;
}

async function classify() {
  const text = byId("text").value;
  const number = ++latest;
  const button = byId("submit");
  byId("message").hidden = true;
  button.setAttribute("aria-disabled", "true");
  byId("status").textContent = "Classifying …";
  try {
    const wanted = { text, all: true, with_base: Boolean(info && info.base) };
    const { answers } = await ask("predict", wanted);
    if (number !== latest) return;
    showAnswers(answers[0]);
    const explained = await ask("explain", { text });
    if (number !== latest) return;
    if (explained.base) showWords("base", text, explained.base);
    showWords("model", text, explained.model);
    byId("method").textContent =
      `Method: ${explained.method}. The score of a word is by how much the log-odds of the answer fall without it.`;
    byId("legend").hidden = false;
  } catch (error) {
    if (number === latest) {
      byId("status").textContent = "";
      showError(error);
    }
  } finally {
    if (number === latest) button.removeAttribute("aria-disabled");
  }
}

async function start() {
  byId("form").addEventListener("submit", (event) => {
    event.preventDefault();
    classify();
  });
  byId("text").addEventListener("keydown", (event) => {
    if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) {
      event.preventDefault();
      byId("form").requestSubmit();
    }
  });
  try {
    info = await ask("info");
    const { model } = info;
    const beside = info.base ? ", beside its base" : "";
    byId("served").textContent =
      `Served: ${model.description}${beside}; classes ${model.labels.join(", ")}; ` +
      `sha256 ${model.sha256.slice(0, 12)}.`;
  } catch (error) {
    showError(error);
  }
}

start();
