"""The ladder: the accuracy of each kind of method on the same test rows, from the floor upwards."""

from pathlib import Path
from typing import Any

import pandas as pd
from scipy.stats import beta

from stages.core.artefacts import replacing
from stages.core.methods import FACTS
from stages.reporting.results import Rung, points
from stages.reporting.significance import LEVEL, Gain, difference_of_means, wilson


def comparison_figures(gain: Gain) -> dict[str, float | int]:
    """Return the comparison as metrics/comparison.json holds it; accuracies are shares."""
    rows = gain.rows
    intervals = {
        "base": wilson(round(gain.first * rows), rows),
        "adapter": wilson(round(gain.second * rows), rows),
    }
    shares = {
        "accuracy_base": gain.first,
        "accuracy_adapter": gain.second,
        "accuracy_gain": gain.gain,
        "accuracy_gain_low": gain.low,
        "accuracy_gain_high": gain.high,
        "accuracy_gain_smallest": gain.smallest,
        **{f"accuracy_{name}_low": ends[0] for name, ends in intervals.items()},
        **{f"accuracy_{name}_high": ends[1] for name, ends in intervals.items()},
    }
    return {key: round(value, 6) + 0.0 for key, value in shares.items()} | {
        "rows": rows,
        "fixed": gain.fixed,
        "broken": gain.broken,
        "mcnemar_p": float(f"{gain.p:.3g}"),  # however small, it is not zero
    }


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
) -> list[Rung]:
    """Return the rungs in the order of NAMES.

    Args:
        base: metrics/base.json, which also holds the floors, and `l2`, the penalty of its head.
        tfidf: metrics/tfidf.json.
        adapter_accuracy: of the run at hand.
        method: what the run at hand trained.
        rows: how many test rows.
        records: of several seeds on the same test rows, by their method. That of another method
            than the run's becomes a rung of its own; that of the run's, with more than one seed,
            takes the place of the run.
    """
    untrained, sd = base["untrained"], base["untrained_sd"]
    accuracies = {
        "majority": (base["majority"], "the most frequent class of the training rows"),
        "untrained": (
            untrained,
            f"mean of ten fresh heads, sd {100 * sd:.1f} points; 95 % of a beta distribution",
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
    intervals["untrained"] = (*beta_interval(untrained, sd), "heads")
    for name, record in records.items():
        if name != method or len(record["seeds"]) > 1:
            accuracies[name], intervals[name] = _of_record(record, rows)
    if len(records.get(method, {"seeds": []})["seeds"]) > 1:
        accuracy, note = accuracies[method]
        accuracies[method] = accuracy, f"{note}; this run {100 * adapter_accuracy:.1f} %"
    return _with_steps([(n, *accuracies[n], *intervals[n]) for n in NAMES if n in accuracies])


def beta_interval(mean: float, sd: float) -> tuple[float, float]:
    """Return what holds 95 % of a beta distribution with this mean and standard deviation.

    Unlike a normal distribution it stays within 0 and 1, as a share does. Its parameters are those
    of the method of moments (Johnson, Kotz & Balakrishnan 1995, Continuous Univariate
    Distributions 2, chapter 25). No beta distribution spreads wider than sqrt(mean (1 - mean)):
    then the whole range is returned.
    """
    variance = mean * (1 - mean)
    if sd == 0 or variance == 0:
        return mean, mean
    if sd**2 >= variance:
        return 0.0, 1.0
    size = variance / sd**2 - 1
    low, high = beta.interval(LEVEL, mean * size, (1 - mean) * size)
    return float(low), float(high)


def _of_record(
    record: dict[str, Any], rows: int
) -> tuple[tuple[float, str], tuple[float, float, str]]:
    """Return (accuracy, note) and (low, high, what the interval is over) of a seed record."""
    accuracy, seeds = record["accuracy_adapter_mean"], record["seeds"]
    if len(seeds) == 1:
        note, interval = f"seed {seeds[0]}", (*wilson(round(accuracy * rows), rows), "rows")
    else:  # Student's t interval of the mean
        ends = (
            max(0.0, record["accuracy_adapter_low"]),  # an accuracy is a share
            min(1.0, record["accuracy_adapter_high"]),
        )
        note, interval = f"mean of {len(seeds)} seeds", (*ends, "seeds")
    return (accuracy, f"{note}, {record['precision']}"), interval


def against_full(records: dict[str, dict[str, Any]], method: str) -> str | None:
    """Return in words whether the run's method and full fine-tuning can be told apart.

    None without several seeds of both, or where the run is full fine-tuning itself.
    """
    own, full = (records.get(name) for name in (method, "full"))
    if method == "full" or own is None or full is None:
        return None
    if min(len(own["seeds"]), len(full["seeds"])) < 2:
        return None
    name, best = NAMES[method], NAMES["full"]
    gain, low, high = difference_of_means(own["accuracy_adapter"], full["accuracy_adapter"])
    told = "distinguishable" if low > 0 or high < 0 else "not distinguishable"
    return (
        f"{name} {100 * own['accuracy_adapter_mean']:.1f} % over {len(own['seeds'])} seeds, {best} "
        f"{100 * full['accuracy_adapter_mean']:.1f} % over {len(full['seeds'])}: "
        f"{points(gain)} points, 95 % interval {points(low)} to {points(high)} over the seeds, "
        f"{told}"
    )


def _with_steps(rows: list[tuple[str, float, str, float, float, str]]) -> list[Rung]:
    """Return the rungs with each one's step from the rung before, and its share of the way."""
    way = rows[-1][1] - rows[0][1]
    rungs: list[Rung] = []
    for key, accuracy, note, low, high, over in rows:
        step = accuracy - rungs[-1].accuracy if rungs else 0.0
        share = step / way if way else 0.0
        rungs.append(Rung(key, NAMES[key], accuracy, low, high, over, step, share, note))
    return rungs


def write_ladder(ladder: list[Rung], path: Path) -> None:
    """Write the ladder as a table, lowest rung first; accuracies and steps are shares."""
    frame = pd.DataFrame(ladder).rename(columns={"name": "rung", "share": "share_of_way"})
    columns = ["rung", "accuracy", "low", "high", "interval_over", "step", "share_of_way", "note"]
    with replacing(path) as temporary:
        frame[columns].to_csv(temporary, index=False, float_format="%.6f", lineterminator="\n")
