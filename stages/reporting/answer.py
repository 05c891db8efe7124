"""What a reader wants to know first: use it or not, where it fails, what to do next.

Every sentence is made from the figures of this run, and says no more than they show.
"""

from collections.abc import Callable
from typing import Any

from stages.core.errors import printable
from stages.core.methods import facts_of
from stages.reporting.details import LEAST_SURE
from stages.reporting.results import Results, percent, step
from stages.reporting.significance import LEVEL, Gain, clopper_pearson, wilson
from stages.rows.splits import COUNTS
from stages.training import ROWS_TO_CHOOSE

FEW_TEST_ROWS = 400  # fewer know an accuracy of 80 % to 4 points at best
FEW_ROWS_A_CLASS = 64
FEW_ROWS = 20  # of a group or class, below which nothing is said of it
SURE_MISTAKES = 10  # that the page shows whole
LEFT_OUT = 0.2  # share of the rows that the advice leaves to a person


def answer(results: Results, show: Callable[[str], str] = printable) -> list[tuple[str, list[str]]]:
    """Return (question, sentences) for the first screen of the report.

    Args:
        results: of the comparison.
        show: makes a label, which comes from the data, safe where the answer is shown.
    """
    return [
        ("Use it?", [use(results)]),
        ("Where does it fail?", [weakest(results, show)]),
        ("What next?", advice(results)),
    ]


def use(results: Results) -> str:
    """Return whether the adapter is worth using, from both gains."""
    gain, other = results.gain, results.over_tfidf
    over_base = f"{step(gain.first, gain.second)} points over the base"
    over_words = f"{step(other.first, other.second)} over TF-IDF"
    if results.kept == "base":
        return "There is nothing to use: no trained weights were better than the base on validation"
    if other.distinguishable and other.gain < 0:
        return f"No: TF-IDF, which needs no encoder, is better ({over_words})"
    if gain.distinguishable and gain.gain < 0:
        return f"No: the base, whose encoder is frozen, is better ({over_base})"
    if not gain.distinguishable:
        why = "Too few rows to tell" if gain.rows < FEW_TEST_ROWS else "No gain is shown"
        return (
            f"{why}: {over_base}, and on these {gain.rows:,} rows a gain below "
            f"{100 * gain.smallest:.1f} points cannot be shown"
        )
    if not other.distinguishable:
        return (
            f"It beats the base ({over_base}), but cannot be told from TF-IDF ({over_words}), "
            "which costs far less"
        )
    beside = "" if results.against_full is None else f"; {results.against_full}"
    return f"Yes: {over_base}, {over_words}{beside}"


def weakest(results: Results, show: Callable[[str], str] = printable) -> str:
    """Return the class whose rows the adapter has right less often than all, and the unsure rows.

    One is named only if chance does not explain it, given how many are looked at.
    """
    accuracy, rows = results.gain.second, results.gain.rows
    groups = [group for group in results.groups if group[2].rows >= FEW_ROWS]
    classes = [(of.second, name, of.rows) for kind, name, of in groups if kind == "class"]
    level = 1 - (1 - LEVEL) / max(1, len(classes))  # for that many looks
    below = [(share, name) for share, name, count in classes
             if clopper_pearson(round(share * count), count, level)[1] < accuracy]  # fmt: skip
    said = [f"It is wrong on {rows - round(accuracy * rows):,} of {rows:,} rows"]
    if below:
        share, name = min(below)
        said.append(f"Weakest: the class {show(name)} (it finds {percent(share)} of its rows)")
    elif len(classes) > 1:
        said.append("No class is weaker than the rest beyond chance")
    said += [
        f"Least sure: the {of.rows:,} rows {name} confidence, {percent(of.second)} of them right"
        for _, name, of in groups
        if name == LEAST_SURE
    ]
    return ". ".join(said)


def advice(results: Results) -> list[str]:
    """Return what to do next, one sentence each."""
    parts = []
    if mistakes := min(SURE_MISTAKES, len(results.suspects)):
        parts.append(f"Read the {mistakes} surest mistakes: some labels may be wrong")
    answered = results.curves["answered_adapter"]
    kept = answered[answered["answered"] >= 1 - LEFT_OUT - 1e-9].iloc[-1]
    if kept["accuracy"] > results.gain.second:
        rows, count = results.gain.rows, round(kept["answered"] * results.gain.rows)
        wrong = rows - round(results.gain.second * rows)
        remain = count - round(kept["accuracy"] * count)
        parts.append(
            f"Hand over: if a person takes the {rows - count:,} rows below "
            f"{percent(kept['threshold'])} confidence, {wrong - remain:,} of the {wrong:,} "
            f"mistakes go with them and {remain:,} remain in the other {count:,} "
            f"({percent(kept['accuracy'])} right, read off these rows)"
        )
    if results.seeds is None:
        parts.append("Run bert-lora seeds 5: this is one training run")
    return parts or ["Label more rows: these show nothing to act on"]


def facts(results: Results, base: str, source: str) -> list[str]:
    """Return data, model, rows and sizes, in a few words each."""
    data, size = results.data, results.size
    seconds = (results.seeds or {}).get("seconds")
    return [
        f"data {source}",
        f"model {base}",
        f"method {facts_of(results.params).title}",
        f"{data['rows_train']:,} rows to train on, {data['rows_validation']:,} to choose on, "
        f"{results.gain.rows:,} to test on",
        f"{len(results.labels)} classes",
        f"adapter {size['bytes'] / 1e6:.1f} MB ({size['trained']:,} parameters), on top of an "
        f"encoder of {size['base'] / 1e6:.1f} M",
        *([f"{seconds:,.0f} s to train (by the seeds' record)"] if seconds else []),
    ]


def limits(results: Results) -> list[str]:
    """Return what to know before relying on the figures, one sentence each."""
    found = list(results.warnings)
    if len((results.seeds or {"seeds": []})["seeds"]) < 2:
        found.append("One training run; the interval does not cover another seed")
    found.append("One test set: texts from elsewhere may score lower")
    return found + left_out(results.data)


def caveats(gain: Gain, data: dict[str, Any], classes: int, kept: str) -> list[str]:
    """Return what the figures of this run cannot show, one sentence each; none for plenty of rows.

    Args:
        gain: of the adapter over the base.
        data: metrics/data.json.
        classes: how many there are.
        kept: what the adapter's manifest says was kept, "trained" or "base".
    """
    found = []
    if kept == "base":
        found.append(
            "No trained weights were better than the base on the validation rows, so the base "
            "itself is kept: the adapter is untrained, and the gain is zero"
        )
    if gain.rows < FEW_TEST_ROWS:
        low, high = wilson(round(gain.second * gain.rows), gain.rows)
        found.append(
            f"{gain.rows} test rows: the adapter's accuracy lies anywhere from {100 * low:.0f} to "
            f"{100 * high:.0f} %, and a gain below {100 * gain.smallest:.0f} points cannot be shown"
        )
    rows = data["rows_train"]
    if rows < FEW_ROWS_A_CLASS * classes:
        found.append(
            f"{rows:,} rows to train on, {rows / classes:.0f} a class: other rows of the same kind "
            "would give another adapter, which no interval over test rows or seeds shows"
        )
    if (rows := data["rows_validation"]) < ROWS_TO_CHOOSE:
        found.append(
            f"{rows} validation rows: too few to choose a checkpoint, and the penalty and the "
            "temperature that they choose are rough"
        )
    return found


def left_out(data: dict[str, Any]) -> list[str]:
    """Return in one sentence which rows prepare left out or merged; none where it kept all."""
    named = [(data.get(f"rows_{name}", 0), name.replace("_", " ")) for name in COUNTS[1:]]
    counted = [f"{count:,} {name}" for count, name in named if count]
    return [f"Rows that prepare left out or merged: {', '.join(counted)}"] if counted else []
