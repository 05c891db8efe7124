"""Every figure of the report: scores by class and of the confidence, flipped rows, the ladder."""

from typing import Any

import numpy as np
import pandas as pd
from sklearn import metrics

from stages.core.methods import FACTS
from stages.reporting.records import right_of
from stages.reporting.results import MODELS, between, percent, step
from stages.reporting.significance import (
    Gain,
    difference_of_means,
    gain_interval,
    paired_gain,
    wilson,
)
from stages.scoring.predictions import probabilities_of
from stages.scoring.scores import bins_of, confidence_scores, with_temperature

Array = np.ndarray[Any, np.dtype[np.float64]]
Numbers = np.ndarray[Any, np.dtype[np.int64]]

PAIRS = 25  # of classes that are confused
# Edges of the adapter's confidence, and what the groups between them are called.
LEAST_SURE = "below 60 %"
CONFIDENCE = {LEAST_SURE: (0, 0.6), "60 to 80 %": (0.6, 0.8), "80 % and more": (0.8, 2)}
# Of the ladder: what its rungs are called, lowest first where they are equal, and its columns.
NAMES = {
    "majority": "majority class",
    "untrained": "untrained head",
    "tfidf": "TF-IDF, logistic regression",
    "base": "frozen encoder, fitted head (base)",
    **{name: method.title for name, method in FACTS.items()},
}
COLUMNS = ["accuracy", "low", "high", "interval_over", "note", "cost"]


def scores_of(
    probabilities: Array, targets: Numbers, labels: list[str], temperature: float
) -> dict[str, Any]:
    """Return accuracy with its Wilson interval, scores by class, and of the confidence.

    Args:
        probabilities: shape (rows, classes).
        targets: true label numbers, shape (rows,).
        labels: class names in the order of the columns.
        temperature: what the logits are divided by already; fitted on validation rows.

    Returns:
        f1_macro, over the classes that have test rows; matthews (Matthews 1975; Gorodkin 2004 for
        several classes); roc_auc (one-vs-rest mean for several classes); brier (Brier 1950: mean
        squared distance to the true class, summed over classes, 0 to 2); calibration_error
        (expected calibration error of the predicted class, 15 bins of equal width: Guo et al.
        2017, arXiv 1706.04599); log_loss in nats; the last three also `_raw`, before temperature
        scaling; and by class precision, recall, f1 and rows.
    """
    predicted = probabilities.argmax(axis=1)
    right = predicted == targets
    by_class = pd.DataFrame(
        metrics.precision_recall_fscore_support(
            targets, predicted, labels=range(len(labels)), zero_division=0
        ),
        index=["precision", "recall", "f1", "rows"],
        columns=labels,
    ).T.astype({"rows": int})
    low, high = wilson(int(right.sum()), len(right))
    raw = with_temperature(probabilities, 1 / temperature)
    return {
        "accuracy": float(right.mean()),
        "accuracy_low": low,
        "accuracy_high": high,
        "f1_macro": float(by_class["f1"][by_class["rows"] > 0].mean()),  # without rows: none
        "matthews": float(metrics.matthews_corrcoef(targets, predicted)),
        "roc_auc": roc_auc(probabilities, targets),
        **confidence_scores(probabilities, targets),
        **{f"{k}_raw": v for k, v in confidence_scores(raw, targets).items()},
        "temperature": temperature,
        "by_class": by_class.to_dict("index"),
    }


def roc_auc(probabilities: Array, targets: Numbers) -> float | None:
    """Return the area under the ROC curve; for several classes the mean of one-vs-rest areas.

    Classes without a test row, or with all of them, have no curve and are left out; None if
    that leaves none.
    """
    classes = [1] if probabilities.shape[1] == 2 else range(probabilities.shape[1])
    areas = [
        metrics.roc_auc_score(targets == n, probabilities[:, n])
        for n in classes
        if 0 < (targets == n).sum() < len(targets)
    ]
    return float(np.mean(areas)) if areas else None


def accuracy_answered(probabilities: Array, targets: Numbers) -> pd.DataFrame:
    """Return the accuracy on the surest rows alone, from all of them to half of them.

    See El-Yaniv & Wiener 2010, JMLR 11:1605. Columns: percent of the rows, answered (the share
    that it is of so few rows), threshold (the least confidence among them), accuracy. Rows of one
    confidence keep their order.
    """
    confidence = probabilities.max(axis=1)
    surest = np.argsort(-confidence, kind="stable")
    right = (probabilities.argmax(axis=1) == targets)[surest]
    percents = np.arange(100, 45, -5)
    counts = np.maximum(1, np.rint(len(targets) * percents / 100).astype(int))
    return pd.DataFrame(
        {
            "percent": percents,
            "answered": counts / len(targets),
            "threshold": confidence[surest][counts - 1],
            "accuracy": right.cumsum()[counts - 1] / counts,
        }
    )


def confused_pairs(predictions: dict[str, pd.DataFrame]) -> pd.DataFrame:
    """Return the commonest mistakes of the adapter, at most 25, and how often the base makes them.

    Columns: label, predicted, base and adapter (rows), share (of the rows of the label).
    """
    counts = {name: of.groupby(["label", "predicted"]).size() for name, of in predictions.items()}
    pairs = pd.DataFrame(counts)[list(MODELS)].fillna(0).astype(int).reset_index()
    pairs["share"] = pairs["adapter"] / pairs.groupby("label")["adapter"].transform("sum")
    wrong = pairs[(pairs["label"] != pairs["predicted"]) & (pairs["adapter"] > 0)]
    return wrong.sort_values("adapter", ascending=False, kind="stable")[:PAIRS]


def trace_curves(
    probabilities: dict[str, Array], targets: Numbers, temperature: float
) -> dict[str, pd.DataFrame]:
    """Return the numbers of the plots: reliability_ and answered_ with a model's name.

    The former has a line for each bin of confidence that has rows: confidence (mean), accuracy,
    rows; reliability_raw is of the adapter before its temperature. See `accuracy_answered`.

    Args:
        probabilities: by model, shape (rows, classes).
        targets: true label numbers, shape (rows,).
        temperature: what the adapter's logits are divided by already.
    """
    raw = {"raw": with_temperature(probabilities["adapter"], 1 / temperature)}
    bins = ("confidence", "accuracy", "rows")
    curves = {
        f"reliability_{name}": pd.DataFrame(dict(zip(bins, bins_of(table, targets), strict=True)))
        for name, table in (probabilities | raw).items()
    }
    return curves | {
        f"answered_{name}": accuracy_answered(table, targets)
        for name, table in probabilities.items()
    }


def describe_rows(predictions: dict[str, pd.DataFrame], test: pd.DataFrame) -> pd.DataFrame:
    """Return a line for each test row with both answers, the surest of the adapter first.

    Columns: id, change (fixed, broken or empty), text, label, base_predicted, base_confidence,
    adapter_predicted, adapter_confidence (the probability of the predicted class), and rating
    (the raters' mean) where the data has it.

    Args:
        predictions: of base and adapter, row by row of the same test row.
        test: the prepared test rows, of the same ids: id, text and maybe rating.
    """
    rows = predictions["base"][["id", "label"]].merge(test.drop(columns="label"), on="id")
    for name, of in predictions.items():
        rows[f"{name}_predicted"] = of["predicted"]
        rows[f"{name}_confidence"] = probabilities_of(of).max(axis=1)
    before, after = (rows["label"] == rows[f"{name}_predicted"] for name in MODELS)
    rows["change"] = np.select([~before & after, before & ~after], ["fixed", "broken"], "")
    answers = [f"{name}_{what}" for name in MODELS for what in ("predicted", "confidence")]
    rating = [column for column in ("rating",) if column in rows]
    columns = ["id", "change", "text", "label", *answers, *rating]
    return rows[columns].sort_values("adapter_confidence", ascending=False, kind="stable")


def count_groups(rows: pd.DataFrame) -> list[tuple[str, str, Gain]]:
    """Return (kind, name, gain) of the rows of each class, and of a like confidence of the adapter.

    The gains are corrected for how many groups are looked at.

    Args:
        rows: of `describe_rows`.
    """
    sure = rows["adapter_confidence"]
    groups = [("class", name, rows["label"] == name) for name in sorted(rows["label"].unique())]
    groups += [
        ("confidence", name, sure.between(low, high, inclusive="left"))
        for name, (low, high) in CONFIDENCE.items()
    ]
    groups = [group for group in groups if group[2].any()]
    before, after = (rows["label"] == rows[f"{name}_predicted"] for name in MODELS)
    return [
        (kind, name, paired_gain(before[of].to_numpy(), after[of].to_numpy(), len(groups)))
        for kind, name, of in groups
    ]


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
