"""What a reader wants to know first: use it or not, where it fails, what to do next.

Every sentence is made from the figures of this run, and says no more than they show.
"""

from collections.abc import Callable
from typing import Any

from stages.core.errors import printable
from stages.core.methods import facts_of
from stages.reporting.results import Group, Results, percent, step
from stages.reporting.significance import Gain, wilson

FEW_TEST_ROWS = 400  # fewer know an accuracy of 80 % to 4 points at best
FEW_ROWS_A_CLASS = 64
FEW_VALIDATION_ROWS = 100  # as many as choose a checkpoint
FEW_ROWS = 20  # of a group or class, below which nothing is said of it
LEFT_OUT = 0.2  # share of the rows that the advice leaves to a person
# What prepare counted: key in metrics/data.json, and what happened to so many rows.
COUNTED = {
    "rows_conflict": "same text with several labels",
    "rows_incomplete": "without text or label",
    "rows_leaked": "text in more than one split",
    "rows_neutral": "without a class, since the rating is 0",
    "rows_not_sampled": "left out by data.limit",
    "rows_outvoted": "most raters gave the text another label",
    "rows_rare": "class with too few rows",
    "rows_rejected": "rejected by an annotator",
    "rows_repeated": "repeated",
    "rows_skipped": "skipped by an annotator",
}


def answer(results: Results, show: Callable[[str], str] = printable) -> list[tuple[str, str]]:
    """Return (question, answer) for the first screen of the report.

    Args:
        results: of the comparison.
        show: makes a label, which comes from the data, safe where the answer is shown.
    """
    return [
        ("Use it?", use(results)),
        ("Where does it fail?", weakest(results, show)),
        ("What next?", advice(results)),
    ]


def use(results: Results) -> str:
    """Return whether the adapter is worth using, from both gains."""
    gain, other = results.gain, results.over_tfidf
    over_base = f"{step(gain.first, gain.second)} points over the frozen encoder"
    over_words = f"{step(other.first, other.second)} over bag of words"
    if results.kept == "base":
        return "There is nothing to use: no trained weights were better than the base on validation"
    if other.distinguishable and other.gain < 0:
        return f"No: bag of words, which needs no encoder, is better ({over_words})"
    if gain.distinguishable and gain.gain < 0:
        return f"No: the frozen encoder with a fitted head is better ({over_base})"
    if not gain.distinguishable:
        why = "Too few rows to tell" if gain.rows < FEW_TEST_ROWS else "No gain is shown"
        return (
            f"{why}: {over_base}, and on these {gain.rows:,} rows a gain below "
            f"{100 * gain.smallest:.1f} points cannot be shown"
        )
    if not other.distinguishable:
        return (
            f"It beats the frozen encoder ({over_base}), but cannot be told from bag of words "
            f"({over_words}), which costs far less"
        )
    beside = "" if results.against_full is None else f"; {results.against_full}"
    return f"Yes: {over_base}, {over_words}{beside}"


def weakest(results: Results, show: Callable[[str], str] = printable) -> str:
    """Return the class and the rows on which the adapter is right least often."""
    by_class = results.details["adapter"]["by_class"]
    classes = {label: of for label, of in by_class.items() if of["rows"] >= FEW_ROWS}
    parts = []
    if len(classes) > 1:
        label = min(classes, key=lambda name: classes[name]["recall"])
        recall = percent(classes[label]["recall"])
        parts.append(f"the class {show(label)} (it finds {recall} of its rows)")
    below = [group for group in results.flips.groups if worse(group, results.gain.second)]
    if below:
        worst = min(below, key=lambda group: group.gain.second)
        of = "of " if worst.kind == "length" else ""
        parts.append(f"texts {of}{worst.name} ({percent(worst.gain.second)} right)")
    wrong = results.gain.rows - round(results.gain.second * results.gain.rows)
    weak = f". Weakest: {' and '.join(parts)}" if parts else ""
    return f"It is wrong on {wrong:,} of {results.gain.rows:,} rows{weak}"


def worse(group: Group, accuracy: float) -> bool:
    """Return whether the adapter is less accurate on such texts than on all, beyond their few."""
    if group.kind == "class" or "confidence" in group.kind or group.gain.rows < FEW_ROWS:
        return False
    right = round(group.gain.second * group.gain.rows)
    return wilson(right, group.gain.rows)[1] < accuracy


def advice(results: Results) -> str:
    """Return what to do next."""
    parts = []
    if mistakes := min(25, len(results.flips.suspects)):
        parts.append(f"Read the {mistakes} surest mistakes below: some labels may be wrong")
    answered = results.curves.answered["adapter"]
    kept = answered[answered["answered"] >= 1 - LEFT_OUT - 1e-9].iloc[-1]
    if kept["accuracy"] > results.gain.second:
        parts.append(
            f"leaving the rows below a confidence of {kept['threshold']:.3f} to a person (the "
            f"unsurest {100 * (1 - kept['answered']):.0f} %) gives {percent(kept['accuracy'])} on "
            "the rest of these rows"
        )
    if results.seeds is None:
        parts.append("bert-lora seeds 5 says how much another seed changes")
    return "; ".join(parts) or "Label more rows: these show nothing to act on"


def facts(results: Results, base: str, source: str) -> str:
    """Return data, model, rows and sizes in one line."""
    data, size = results.data, results.size
    seconds = (results.seeds or {}).get("seconds")
    return " · ".join(
        [
            f"data {source}",
            f"model {base}",
            f"method {facts_of(results.params).title}",
            f"{data['rows_train']:,} rows to train on, {data['rows_validation']:,} to choose on, "
            f"{results.gain.rows:,} to test on",
            f"{len(results.labels)} classes",
            f"{size['trained']:,} parameters trained, {size['base']:,} in the encoder",
            f"{size['bytes'] / 1e6:.1f} MB",
            *([f"{seconds:,.0f} s to train (by the seeds' record)"] if seconds else []),
        ]
    )


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
        shows = (
            f"a gain below {100 * gain.smallest:.0f} points cannot be shown"
            if gain.smallest < 1
            else "no gain can be shown on so few"
        )
        found.append(
            f"{gain.rows} test rows: the adapter's accuracy lies anywhere from {100 * low:.0f} to "
            f"{100 * high:.0f} %, and {shows}"
        )
    rows = data["rows_train"]
    if rows < FEW_ROWS_A_CLASS * classes:
        found.append(
            f"{rows:,} rows to train on, {rows / classes:.0f} a class: other rows of the same kind "
            "would give another adapter, which no interval over test rows or seeds shows"
        )
    if (rows := data["rows_validation"]) < FEW_VALIDATION_ROWS:
        found.append(
            f"{rows} validation rows: too few to choose a checkpoint, and the penalty and the "
            "temperature that they choose are rough"
        )
    return found


def left_out(data: dict[str, Any]) -> list[str]:
    """Return what prepare left out, merged or decided, with the number of rows of each."""
    return [f"{data[key]:,} rows: {what}" for key, what in COUNTED.items() if data.get(key)]
