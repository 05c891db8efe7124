// The page of `bert-lora serve`. Every text reaches the page as textContent, never as markup.
"use strict";

const byId = (id) => document.getElementById(id);
const LONGEST = 24; // characters of a word in the list of the strongest
const LIKELIEST = 5; // classes that are shown at first
const PULSE = 10_000; // milliseconds between two looks whether the server is still there
const percent = (share) => `${(100 * share).toFixed(1)} %`;
const signed = (number, digits) => {
  const shown = Math.abs(number).toFixed(digits);
  if (Number(shown) === 0) return shown;
  return `${number > 0 ? "+" : "−"}${shown}`;
};
let info = null;
let latest = 0; // number of the last question: a late answer to an earlier one is dropped
let answered = null; // the text whose answers are shown

function element(name, className, text) {
  const made = document.createElement(name);
  if (className) made.className = className;
  if (text !== undefined) made.textContent = text;
  return made;
}

const sentence = (words) => `${words[0].toUpperCase()}${words.slice(1)}.`;

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
  if (!response.ok) {
    // Which field of the request is wrong means nothing to a person with one field.
    const what = content.error.replace(/^(body|texts?)(\.\d+)?: /, "");
    throw new Error(`${sentence(what)} ${sentence(content.fix)}`);
  }
  return content;
}

function classTable(title, answer) {
  const shares = Object.entries(answer.probabilities);
  const many = shares.length > LIKELIEST;
  if (many) shares.sort((one, other) => other[1] - one[1]); // few keep their places in both cards
  const table = element("table", "classes");
  table.append(element("caption", "unseen", `Probabilities of ${title}`));
  const rows = shares.map(([label, share], place) => {
    const row = element("tr");
    row.hidden = place >= LIKELIEST;
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
    return row;
  });
  const body = element("tbody");
  body.append(...rows);
  table.append(body);
  return many ? [table, moreButton(rows)] : [table];
}

function moreButton(rows) {
  const button = element("button", "more", `Show all ${rows.length} classes`);
  button.type = "button";
  button.setAttribute("aria-expanded", "false");
  button.addEventListener("click", () => {
    const all = button.getAttribute("aria-expanded") === "false";
    rows.slice(LIKELIEST).forEach((row) => { row.hidden = !all; });
    button.setAttribute("aria-expanded", String(all));
    button.textContent = all ? `Show the ${LIKELIEST} likeliest` : `Show all ${rows.length} classes`;
  });
  return button;
}

function card(id, title, answer) {
  const made = element("section", "card");
  made.id = `answer-${id}`;
  const heading = element("h3", "", title);
  heading.id = `title-${id}`;
  made.setAttribute("aria-labelledby", heading.id);
  const line = element("p", "answer", `${answer.label}, ${percent(answer.probability)}`);
  made.append(heading, line, element("div", "words"), ...classTable(title, answer));
  if (answer.cut) {
    made.append(element("p", "quiet", `Only the first ${info.model.max_length} tokens are read.`));
  }
  return made;
}

function showAnswers(text, answer) {
  answered = text;
  markOld();
  const answers = byId("answers");
  answers.replaceChildren();
  if (answer.base) answers.append(card("base", "Base", answer.base));
  answers.append(card("model", answer.base ? "Adapter" : "Model", answer));
  byId("legend").hidden = true;
  byId("method").textContent = "";
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
  const place = byId(`answer-${id}`).querySelector(".words");
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
  const strongest = explained.words
    .filter((word) => Math.abs(word.score) >= 0.005) // what is not shown as 0.00
    .sort((one, other) => Math.abs(other.score) - Math.abs(one.score))
    .slice(0, 5)
    .map((word) => {
      const name = characters.slice(word.start, Math.min(word.end, word.start + LONGEST)).join("");
      return `${name}${word.end - word.start > LONGEST ? "…" : ""} ${signed(word.score, 2)}`;
    });
  place.append(shown);
  if (strongest.length) place.append(element("p", "quiet", `Strongest: ${strongest.join(", ")}.`));
}

function showError(error) {
  byId("message").textContent = error.message;
  byId("message").hidden = false;
}

// Dims answers that are not those of the text above, or of a server that is there.
function markOld(why = "These answers are those of an earlier text.", old = byId("text").value !== answered) {
  byId("results").classList.toggle("old", old);
  byId("old").textContent = old ? why : "";
}

async function checkServer() {
  if (answered === null || document.hidden) return;
  const there = await fetch("health").then((response) => response.ok, () => false);
  if (there) markOld();
  else markOld("The server does not answer any more.", true);
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
    showAnswers(text, answers[0]);
    await explain(text, number);
  } catch (error) {
    if (number !== latest) return;
    byId("status").textContent = "";
    showError(error);
    await checkServer();
  } finally {
    if (number === latest) button.removeAttribute("aria-disabled");
  }
}

async function explain(text, number) {
  let method;
  try {
    const explained = await ask("explain", { text });
    if (number !== latest) return;
    if (explained.base) showWords("base", text, explained.base);
    showWords("model", text, explained.model);
    byId("legend").hidden = false;
    method = `Method: ${explained.method}. The score of a word is by how much the log-odds of the answer fall without it.`;
  } catch (error) { // there is an answer: this is no alarm
    method = `No word is coloured. ${error.message}`;
  }
  if (number === latest) byId("method").textContent = method;
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
  byId("text").addEventListener("input", () => { if (answered !== null) markOld(); });
  setInterval(checkServer, PULSE);
  try {
    info = await ask("info");
    const { model } = info;
    const beside = info.base ? ", beside its base" : "";
    const few = model.labels.length <= LIKELIEST;
    const classes = few ? `classes ${model.labels.join(", ")}` : `${model.labels.length} classes`;
    byId("served").textContent =
      `Served: ${model.description}${beside}; ${classes}; ` +
      `sha256 ${model.sha256.slice(0, 12)}.`;
  } catch (error) {
    showError(error);
  }
}

start();
