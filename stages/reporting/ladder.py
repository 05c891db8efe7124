"""The ladder: the accuracy of each kind of method on the same test rows, from the floor upwards."""

from typing import Any

import numpy as np
import pandas as pd

from stages.core.methods import FACTS
from stages.reporting.records import right_of
from stages.reporting.results import between, percent, step
from stages.reporting.significance import (
    Gain,
    difference_of_means,
    gain_interval,
    wilson,
)


def comparison_figures(gain: Gain, over_tfidf: Gain) -> dict[str, float | int]:
    """Return the comparison as metrics/comparison.json holds it; accuracies are shares.

    Args:
        gain: of the adapter over the base.
        over_tfidf: of the adapter over TF-IDF on the same rows; its keys end in `_tfidf`.
    """
    found: dict[str, float | int] = {"rows": gain.rows, "accuracy_gain_smallest": gain.smallest}
    accuracies = {"base": gain.first, "adapter": gain.second, "tfidf": over_tfidf.first}
    for name, accuracy in accuracies.items():
        low, high = wilson(round(accuracy * gain.rows), gain.rows)
        own = {"": accuracy, "_low": low, "_high": high}
        found |= {f"accuracy_{name}{end}": value for end, value in own.items()}
    found = {key: round(value, 6) for key, value in found.items()}
    for suffix, one in (("", gain), ("_tfidf", over_tfidf)):
        ends = {"": one.gain, "_low": one.low, "_high": one.high}
        found |= {f"accuracy_gain{end}{suffix}": round(x, 6) + 0.0 for end, x in ends.items()}
        found |= {
            f"fixed{suffix}": one.fixed,
            f"broken{suffix}": one.broken,
            f"mcnemar_p{suffix}": float(f"{one.p:.3g}"),  # however small, it is not zero
        }
    return found


NAMES = {
    "majority": "majority class",
    "untrained": "untrained head",
    "tfidf": "TF-IDF, logistic regression",
    "base": "frozen encoder, fitted head (base)",
    **{name: method.title for name, method in FACTS.items()},
}
COLUMNS = ["accuracy", "low", "high", "interval_over", "note", "cost"]


def build_ladder(
    base: dict[str, float],
    tfidf: dict[str, float],
    adapter_accuracy: float,
    method: str,
    rows: int,
    records: dict[str, dict[str, Any]],
    cost: str = "",
) -> pd.DataFrame:
    """Return the rungs from the least accurate to the most; equal ones in the order of NAMES.

    Args:
        base: metrics/base.json with the floors, and `l2`, the penalty of its head.
        tfidf: metrics/tfidf.json.
        adapter_accuracy: of the run at hand.
        method: what the run at hand trained.
        rows: how many test rows.
        records: of several seeds on the same test rows, by their method. That of another method
            than the run's becomes a rung of its own; that of the run's, with more than one seed,
            takes the place of the run.
        cost: of the run at hand, in words.

    Returns:
        A line for each method, with its key in NAMES as index: rung (its name), accuracy, the
        ends of the accuracy's 95 % interval (low, high), interval_over (the test "rows", fresh
        "heads" or "seeds"), note (how it was made) and cost, both in words.
    """

    def rung(accuracy: float, note: str, cost: str) -> list[Any]:
        return [accuracy, *wilson(round(accuracy * rows), rows), "rows", note, cost]

    untrained, sd = base["untrained"], base["untrained_sd"]
    words = f"words and up to {tfidf['ngrams']:g}-word sequences, C {tfidf['c']:g} by validation"
    probe = f"a linear probe of the frozen encoder, L2 {base['l2']:g} by validation"
    rungs = {
        "majority": rung(base["majority"], "the most frequent class of the training rows", "none"),
        "untrained": [
            *(untrained, max(0.0, untrained - 2 * sd), min(1.0, untrained + 2 * sd), "heads"),
            *(f"mean of ten fresh heads, sd {100 * sd:.1f} points", ""),
        ],
        "tfidf": rung(tfidf["accuracy"], words, "no encoder"),
        "base": rung(base["accuracy"], probe, "a head alone"),
        method: rung(adapter_accuracy, "this run", cost),
    }
    for name, record in records.items():
        accuracy, seeds = record["accuracy_adapter_mean"], record["seeds"]
        if name == method and len(seeds) == 1:
            continue
        seconds = f"{record['seconds']:,.0f} s a run" if record.get("seconds") else ""
        run = f"; this run {percent(adapter_accuracy)}" if name == method else ""
        many = f"mean of {len(seeds)} seeds" if len(seeds) > 1 else f"seed {seeds[0]}"
        words = ", ".join(filter(None, [cost if name == method else "", seconds]))
        rungs[name] = rung(accuracy, f"{many}, {record['precision']}{run}", words)
        if len(seeds) > 1:  # an accuracy is a share, which Student's t does not know
            ends = (
                max(0.0, record["accuracy_adapter_low"]),
                min(1.0, record["accuracy_adapter_high"]),
            )
            rungs[name][1:4] = [*ends, "seeds"]
    names = [name for name in NAMES if name in rungs]
    ladder = pd.DataFrame([rungs[name] for name in names], names, COLUMNS)
    ladder.insert(0, "rung", [NAMES[name] for name in names])
    return ladder.sort_values("accuracy", kind="stable")


def against_full(records: dict[str, dict[str, Any]], method: str) -> str | None:
    """Return in words whether the run's method and full fine-tuning can be told apart.

    None without several seeds of both in one precision, or where the run is full fine-tuning
    itself. The interval is the wider of two: over the seeds (Welch), and over the test rows, which
    both have in common.
    """
    own, full = (records.get(name) for name in (method, "full"))
    if method == "full" or own is None or full is None or own["precision"] != full["precision"]:
        return None
    if min(len(own["seeds"]), len(full["seeds"])) < 2 or not {"right"} <= set(own) & set(full):
        return None
    _, low, high = difference_of_means(own["accuracy_adapter"], full["accuracy_adapter"])
    first, second = right_of(full), right_of(own)  # of each row, the share of the seeds
    fixed, broken = float(((1 - first) * second).sum()), float((first * (1 - second)).sum())
    ends = np.array([(low, high), gain_interval(fixed, broken, len(first))])
    limits = "seeds" if np.ptp(ends[0]) > np.ptp(ends[1]) else "test rows"
    low, high = float(ends[:, 0].min()), float(ends[:, 1].max())
    told = "distinguishable" if low > 0 or high < 0 else "not distinguishable"
    means = own["accuracy_adapter_mean"], full["accuracy_adapter_mean"]
    return (
        f"{NAMES[method]} {percent(means[0])} over {len(own['seeds'])} seeds, {NAMES['full']} "
        f"{percent(means[1])} over {len(full['seeds'])}: {step(means[1], means[0])} points, "
        f"95 % interval {between(low, high)} (the {limits} limit it), {told}"
    )
