"""The ladder: the accuracy of each kind of method on the same test rows, from the floor upwards."""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from stages.core.artefacts import replacing
from stages.core.methods import FACTS
from stages.reporting.records import right_of
from stages.reporting.results import Rung, between, percent, step
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
    shares: dict[str, float] = {"accuracy_gain_smallest": gain.smallest}
    counts: dict[str, float | int] = {"rows": gain.rows}
    for name, accuracy in (
        ("base", gain.first),
        ("adapter", gain.second),
        ("tfidf", over_tfidf.first),
    ):
        low, high = wilson(round(accuracy * gain.rows), gain.rows)
        shares |= {
            f"accuracy_{name}": accuracy,
            f"accuracy_{name}_low": low,
            f"accuracy_{name}_high": high,
        }
    for suffix, one in (("", gain), ("_tfidf", over_tfidf)):
        shares |= {
            f"accuracy_gain{suffix}": one.gain,
            f"accuracy_gain_low{suffix}": one.low,
            f"accuracy_gain_high{suffix}": one.high,
        }
        counts |= {
            f"fixed{suffix}": one.fixed,
            f"broken{suffix}": one.broken,
            f"mcnemar_p{suffix}": float(f"{one.p:.3g}"),  # however small, it is not zero
        }
    return {key: round(value, 6) + 0.0 for key, value in shares.items()} | counts


NAMES = {
    "majority": "majority class",
    "untrained": "untrained head",
    "tfidf": "TF-IDF, logistic regression",
    "base": "frozen encoder, fitted head (base)",
    **{name: method.title for name, method in FACTS.items()},
}


def build_ladder(
    base: dict[str, float],
    tfidf: dict[str, float],
    adapter_accuracy: float,
    method: str,
    rows: int,
    records: dict[str, dict[str, Any]],
    cost: str = "",
) -> list[Rung]:
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
    """
    untrained, sd = base["untrained"], base["untrained_sd"]
    accuracies = {
        "majority": (base["majority"], "the most frequent class of the training rows"),
        "untrained": (
            untrained,
            f"mean of ten fresh heads, sd {100 * sd:.1f} points",
        ),
        "tfidf": (
            tfidf["accuracy"],
            f"words and up to {tfidf['ngrams']:g}-word sequences, C {tfidf['c']:g} by validation",
        ),
        "base": (
            base["accuracy"],
            f"a linear probe of the frozen encoder, L2 {base['l2']:g} by validation",
        ),
        method: (adapter_accuracy, "this run"),
    }
    intervals = {
        name: (*wilson(round(accuracy * rows), rows), "rows")
        for name, (accuracy, _) in accuracies.items()
    }
    heads = (max(0.0, untrained - 2 * sd), min(1.0, untrained + 2 * sd), "heads")
    intervals["untrained"] = heads
    costs = {"majority": "none", "tfidf": "no encoder", "base": "a head alone", method: cost}
    for name, record in records.items():
        if name != method or len(record["seeds"]) > 1:
            accuracies[name], intervals[name] = _of_record(record, rows)
            if seconds := record.get("seconds"):
                costs[name] = ", ".join(filter(None, [costs.get(name), f"{seconds:,.0f} s a run"]))
    if len(records.get(method, {"seeds": []})["seeds"]) > 1:
        accuracy, note = accuracies[method]
        accuracies[method] = accuracy, f"{note}; this run {percent(adapter_accuracy)}"
    order = sorted((n for n in NAMES if n in accuracies), key=lambda n: accuracies[n][0])
    lowest = accuracies[order[0]][0]
    way = accuracies[order[-1]][0] - lowest
    rungs: list[Rung] = []
    for name in order:
        (accuracy, note), (low, high, over) = accuracies[name], intervals[name]
        more = accuracy - rungs[-1].accuracy if rungs else 0.0
        share = more / way if way else 0.0
        rungs.append(
            Rung(
                name, NAMES[name], accuracy, low, high, over, more, share, note, costs.get(name, "")
            )
        )
    return rungs


def _of_record(
    record: dict[str, Any], rows: int
) -> tuple[tuple[float, str], tuple[float, float, str]]:
    """Return (accuracy, note) and (low, high, what the interval is over) of a seed record."""
    accuracy, seeds = record["accuracy_adapter_mean"], record["seeds"]
    if len(seeds) == 1:
        note, interval = f"seed {seeds[0]}", (*wilson(round(accuracy * rows), rows), "rows")
    else:
        ends = (
            max(0.0, record["accuracy_adapter_low"]),  # an accuracy is a share
            min(1.0, record["accuracy_adapter_high"]),
        )
        note, interval = f"mean of {len(seeds)} seeds", (*ends, "seeds")
    return (accuracy, f"{note}, {record['precision']}"), interval


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
    name, best = NAMES[method], NAMES["full"]
    _, low, high = difference_of_means(own["accuracy_adapter"], full["accuracy_adapter"])
    first, second = right_of(full), right_of(own)  # of each row, the share of the seeds
    fixed, broken = float(((1 - first) * second).sum()), float((first * (1 - second)).sum())
    over_rows = gain_interval(fixed, broken, len(first))
    ends = np.array([(low, high), over_rows])
    limits = "seeds" if high - low > over_rows[1] - over_rows[0] else "test rows"
    low, high = float(ends[:, 0].min()), float(ends[:, 1].max())
    told = "distinguishable" if low > 0 or high < 0 else "not distinguishable"
    return (
        f"{name} {percent(own['accuracy_adapter_mean'])} over {len(own['seeds'])} seeds, {best} "
        f"{percent(full['accuracy_adapter_mean'])} over {len(full['seeds'])}: "
        f"{step(full['accuracy_adapter_mean'], own['accuracy_adapter_mean'])} points, "
        f"95 % interval {between(low, high)} (the {limits} limit it), {told}"
    )


def write_ladder(ladder: list[Rung], path: Path) -> None:
    """Write the ladder as a table, lowest rung first; accuracies and steps are shares."""
    frame = pd.DataFrame(ladder).rename(columns={"name": "rung", "share": "share_of_way"})
    columns = ["rung", "accuracy", "low", "high", "interval_over", "step", "share_of_way", "note"]
    with replacing(path) as temporary:
        frame[columns].to_csv(temporary, index=False, float_format="%.6f", lineterminator="\n")
