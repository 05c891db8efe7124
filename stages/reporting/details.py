"""Every score of a model on the test rows, beyond the headline: by class, and of its confidence."""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from sklearn import metrics
from sklearn.metrics import confusion_matrix, roc_auc_score

from stages.core.artefacts import replacing
from stages.reporting.results import MODELS, Curves, Flips, Group
from stages.reporting.significance import Gain, paired_gain, resampled_gains, wilson
from stages.scoring.predictions import probabilities_of
from stages.scoring.scores import bins_of, confidence_scores, with_temperature

Array = np.ndarray[Any, np.dtype[np.float64]]
Numbers = np.ndarray[Any, np.dtype[np.int64]]


COVERAGES = (80, 90)  # percent of the rows


def scores_of(
    probabilities: Array, targets: Numbers, labels: list[str], temperature: float
) -> dict[str, Any]:
    """Return accuracy with its Wilson interval, scores by class, and of the confidence.

    Args:
        probabilities: shape (rows, classes).
        targets: true label numbers, shape (rows,).
        labels: class names in the order of the columns.
        temperature: that the logits were divided by, in the weights; fitted on validation rows.

    Returns:
        matthews (Matthews 1975; Gorodkin 2004 for several classes); roc_auc (one-vs-rest mean
        for several classes); brier (Brier 1950: mean squared distance to the true class, summed
        over classes, 0 to 2); calibration_error (expected calibration error of the predicted
        class, 15 bins of equal width: Guo et al. 2017, arXiv 1706.04599); log_loss in nats; the
        last three also `_raw`, before the temperature; accuracy_at_80 and _at_90 percent
        coverage: of the surest rows alone (El-Yaniv & Wiener 2010); and by class precision,
        recall, f1 and rows.
    """
    predicted = probabilities.argmax(axis=1)
    right = predicted == targets
    numbers = range(len(labels))
    precision, recall, f1, rows = metrics.precision_recall_fscore_support(
        targets, predicted, labels=numbers, zero_division=0
    )
    low, high = wilson(int(right.sum()), len(right))
    raw = with_temperature(probabilities, 1 / temperature)
    return {
        "accuracy": float(right.mean()),
        "accuracy_low": low,
        "accuracy_high": high,
        **{f"accuracy_at_{c}": accuracy_at_coverage(probabilities, targets, c) for c in COVERAGES},
        "f1_macro": float(f1[rows > 0].mean()),  # a class without rows has none
        "matthews": float(metrics.matthews_corrcoef(targets, predicted)),
        "roc_auc": roc_auc(probabilities, targets),
        **confidence_scores(probabilities, targets),
        **{f"{k}_raw": v for k, v in confidence_scores(raw, targets).items()},
        "temperature": temperature,
        "by_class": {
            label: {
                "precision": float(precision[n]),
                "recall": float(recall[n]),
                "f1": float(f1[n]),
                "rows": int(rows[n]),
            }
            for n, label in enumerate(labels)
        },
    }


def roc_auc(probabilities: Array, targets: Numbers) -> float | None:
    """Return the area under the ROC curve; for several classes the mean of one-vs-rest areas.

    Classes without a test row, or with all of them, have no curve and are left out; None if
    that leaves none.
    """
    classes = [1] if probabilities.shape[1] == 2 else range(probabilities.shape[1])
    areas = [
        roc_auc_score(targets == n, probabilities[:, n])
        for n in classes
        if 0 < (targets == n).sum() < len(targets)
    ]
    return float(np.mean(areas)) if areas else None


def accuracy_at_coverage(probabilities: Array, targets: Numbers, percent: int) -> float:
    """Return the accuracy on the surest `percent` of the rows; ties keep the rows' order."""
    confidence = probabilities.max(axis=1)
    kept = np.argsort(-confidence, kind="stable")[: max(1, round(len(targets) * percent / 100))]
    return float((probabilities[kept].argmax(axis=1) == targets[kept]).mean())


POINTS = 101  # of a ROC curve
BINS = 40  # of the gain's distribution


def trace_curves(
    probabilities: dict[str, Array],
    targets: Numbers,
    gain: Gain,
    seed: int,
    training: pd.DataFrame,
    validation: pd.DataFrame,
) -> Curves:
    """Return the curves of base and adapter.

    Args:
        probabilities: by model, shape (rows, classes).
        targets: true label numbers, shape (rows,).
        gain: of the adapter over the base.
        seed: that of the gain's interval, so that it is an interval of this distribution.
        training: the training's own curve, as `training.curves` reads it.
        validation: its evaluation steps on the validation rows.
    """

    def reliability(table: Array) -> pd.DataFrame:
        return pd.DataFrame(
            dict(zip(("confidence", "accuracy", "rows"), bins_of(table, targets), strict=True))
        )

    classes = range(next(iter(probabilities.values())).shape[1])
    return Curves(
        roc={name: roc_curve(table, targets) for name, table in probabilities.items()},
        reliability={name: reliability(table) for name, table in probabilities.items()},
        confusion={
            name: confusion_matrix(targets, table.argmax(axis=1), labels=classes)
            for name, table in probabilities.items()
        },
        gains=resampled_gains(gain.fixed, gain.broken, gain.rows, seed),
        training=training,
        validation=validation,
    )


def roc_curve(probabilities: Array, targets: Numbers) -> tuple[Array, Array]:
    """Return 101 points of the ROC curve: false positive rates from 0 to 1, true positive rates.

    Of two classes the second is the positive one; of more, the one-vs-rest curves are averaged
    at equal false positive rates. A class without test rows, or with all of them, has no curve.
    """
    grid = np.linspace(0, 1, POINTS)
    classes = [1] if probabilities.shape[1] == 2 else range(probabilities.shape[1])
    curves = []
    for number in classes:
        positive = targets == number
        if 0 < positive.sum() < len(positive):
            false, true, _ = metrics.roc_curve(positive, probabilities[:, number])
            curves.append(np.interp(grid, false, true))
    mean: Array = np.mean(curves, axis=0)
    mean[0] = 0.0
    return grid, mean


def gain_edges(curves: Curves) -> Array:
    """Return the edges, in points, of about 40 bins of the gain's distribution.

    A gain is a whole number of rows, so every bin spans equally many rows; otherwise some would
    contain more of the possible gains than others, and the distribution would look ragged.
    """
    rows = int(next(iter(curves.confusion.values())).sum())
    steps = np.rint(curves.gains * rows)
    width = max(1, round((steps.max() - steps.min()) / BINS))
    edges: Array = np.arange(steps.min() - 0.5, steps.max() + width, width) * 100 / rows
    return edges


def write_curves(curves: Curves, path: Path) -> None:
    """Write the curves as the tables that dvc.yaml's plots read."""
    counts, edges = np.histogram(100 * curves.gains, bins=gain_edges(curves))
    tables = {
        "gain": pd.DataFrame(
            {"gain_points": (edges[:-1] + edges[1:]) / 2, "share": counts / counts.sum()}
        )
    }
    for name in MODELS:
        false, true = curves.roc[name]
        tables[f"roc_{name}"] = pd.DataFrame(
            {"false_positive_rate": false, "true_positive_rate": true}
        )
        tables[f"reliability_{name}"] = curves.reliability[name]
    with replacing(path) as folder:
        folder.mkdir()
        for name, table in tables.items():
            table.to_csv(
                folder / f"{name}.csv", index=False, float_format="%.6g", lineterminator="\n"
            )


# English; on texts of another language these groups stay empty and are left out.
NEGATION = (
    r"(?i)\b(?:no|not|never|none|nothing|nobody|neither|nor|without|hardly|barely|cannot)\b"
    r"|n['’]t\b"
)
CONTRAST = (
    r"(?i)\b(?:but|yet|although|though|however|despite|except|unless|nevertheless|still|instead)\b"
)
CONFIDENCE = (0.6, 0.8)  # edges of the groups by the base's confidence
SUSPECTS = 50
COLUMNS = ["id", "change", "text", "label", "base_predicted", "base_confidence"]
COLUMNS += ["adapter_predicted", "adapter_confidence", "words", "negation", "contrast"]


def find_flips(base: pd.DataFrame, adapter: pd.DataFrame, test: pd.DataFrame, seed: int) -> Flips:
    """Return the flipped rows, counted by group, and the adapter's surest mistakes.

    Args:
        base: predictions of the base, `predictions.aligned` with those of the adapter.
        adapter: predictions of the adapter, row by row those of the base.
        test: the prepared test rows, of the same ids: id, text and maybe rating.
        seed: of the groups' intervals.
    """
    rows = describe_rows(base, adapter, test)
    right = {name: rows["label"] == rows[f"{name}_predicted"] for name in ("base", "adapter")}
    rows["change"] = ""
    rows.loc[~right["base"] & right["adapter"], "change"] = "fixed"
    rows.loc[right["base"] & ~right["adapter"], "change"] = "broken"
    columns = [*COLUMNS, *(["rating"] if "rating" in rows else [])]
    surest = rows.sort_values("adapter_confidence", ascending=False, kind="stable")[columns]
    return Flips(
        rows=surest[surest["change"] != ""].reset_index(drop=True),
        groups=count_groups(rows, right["base"], right["adapter"], seed),
        suspects=surest[~right["adapter"].loc[surest.index]][:SUSPECTS].reset_index(drop=True),
    )


def describe_rows(base: pd.DataFrame, adapter: pd.DataFrame, test: pd.DataFrame) -> pd.DataFrame:
    """Return a line for each row: both answers, text, number of words, negation, contrast."""
    rows = base[["id", "label"]].copy()
    for name, frame in (("base", base), ("adapter", adapter)):
        rows[f"{name}_predicted"] = frame["predicted"]
        rows[f"{name}_confidence"] = probabilities_of(frame).max(axis=1)
    known = test.set_index("id").reindex(rows["id"])
    for column in ("text", "rating"):
        if column in known:
            rows[column] = known[column].to_numpy()
    text = rows["text"].astype("str")
    return rows.assign(
        words=text.str.count(r"\w+"),
        negation=text.str.contains(NEGATION),
        contrast=text.str.contains(CONTRAST),
    )


def count_groups(
    rows: pd.DataFrame, right_base: "pd.Series[bool]", right_adapter: "pd.Series[bool]", seed: int
) -> list[Group]:
    """Return the flips by the base's confidence, by length, by negation and by contrast."""
    groups = []
    for kind, name, chosen in groupings(rows):
        if not chosen.any():
            continue
        gain = paired_gain(right_base[chosen].to_numpy(), right_adapter[chosen].to_numpy(), seed)
        groups.append(
            Group(
                kind=kind,
                name=name,
                rows=gain.rows,
                fixed=gain.fixed,
                broken=gain.broken,
                base=gain.first,
                adapter=gain.second,
                low=gain.low,
                high=gain.high,
            )
        )
    return groups


def groupings(rows: pd.DataFrame) -> list[tuple[str, str, "pd.Series[bool]"]]:
    """Return (kind, name, which rows) of each group; the groups of a kind share no row."""
    sure, words = rows["base_confidence"], rows["words"]
    low, high = CONFIDENCE
    short, long = (int(words.quantile(q)) for q in (1 / 3, 2 / 3))
    middle = f"{short + 1} to {long} words" if long > short + 1 else f"{long} words"
    return [
        ("base's confidence", f"below {100 * low:.0f} %", sure < low),
        ("base's confidence", f"{100 * low:.0f} to {100 * high:.0f} %", sure.between(low, high)),
        ("base's confidence", f"above {100 * high:.0f} %", sure > high),
        ("length", f"up to {short} words", words <= short),
        ("length", middle, (words > short) & (words <= long)),
        ("length", f"more than {long} words", words > long),
        ("negation", "with a negation", rows["negation"]),
        ("negation", "without", ~rows["negation"]),
        ("contrast", "with a contrast word", rows["contrast"]),
        ("contrast", "without", ~rows["contrast"]),
    ]


def write_rows(rows: pd.DataFrame, path: Path) -> None:
    """Write rows of `Flips` as a CSV file."""
    with replacing(path) as temporary:
        rows.to_csv(temporary, index=False, float_format="%.6g", lineterminator="\n")
