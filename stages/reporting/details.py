"""Every score of a model on the test rows, beyond the headline: by class, and of its confidence."""

from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from sklearn import metrics
from sklearn.metrics import confusion_matrix, roc_auc_score

from stages.core.artefacts import replacing
from stages.reporting.results import MODELS, Curves, Flips, Group
from stages.reporting.significance import paired_gain, wilson
from stages.scoring.predictions import probabilities_of
from stages.scoring.scores import bins_of, confidence_scores, with_temperature

Array = np.ndarray[Any, np.dtype[np.float64]]
Numbers = np.ndarray[Any, np.dtype[np.int64]]


PAIRS = 25  # of classes that are confused


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
    precision, recall, f1, rows = metrics.precision_recall_fscore_support(
        targets, predicted, labels=range(len(labels)), zero_division=0
    )
    low, high = wilson(int(right.sum()), len(right))
    raw = with_temperature(probabilities, 1 / temperature)
    return {
        "accuracy": float(right.mean()),
        "accuracy_low": low,
        "accuracy_high": high,
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


def confused_pairs(
    confusion: dict[str, Numbers], labels: list[str], count: int = PAIRS
) -> pd.DataFrame:
    """Return the commonest mistakes: true, predicted, base, adapter (rows), share of the true."""
    rows = confusion["adapter"].sum(axis=1)
    wrong = confusion["adapter"] * (1 - np.eye(len(labels), dtype=int))
    places = np.argsort(-wrong, axis=None, kind="stable")[:count]
    pairs = [np.unravel_index(place, wrong.shape) for place in places]
    return pd.DataFrame(
        [
            (labels[true], labels[said], int(confusion["base"][true, said]), int(wrong[true, said]),
             float(wrong[true, said] / rows[true]))
            for true, said in pairs
            if wrong[true, said]
        ],
        columns=["true", "predicted", "base", "adapter", "share"],
    )  # fmt: skip


POINTS = 101  # of a ROC curve


def trace_curves(
    probabilities: dict[str, Array],
    targets: Numbers,
    temperature: float,
    training: pd.DataFrame,
    validation: pd.DataFrame,
) -> Curves:
    """Return the curves of base and adapter.

    Args:
        probabilities: by model, shape (rows, classes).
        targets: true label numbers, shape (rows,).
        temperature: what the adapter's logits are divided by already.
        training: the training's own curve, as `training.curves` reads it.
        validation: its evaluation steps on the validation rows.
    """
    raw = {"raw": with_temperature(probabilities["adapter"], 1 / temperature)}
    classes = range(next(iter(probabilities.values())).shape[1])
    bins = ("confidence", "accuracy", "rows")
    return Curves(
        roc={name: roc_curve(table, targets) for name, table in probabilities.items()},
        reliability={
            name: pd.DataFrame(dict(zip(bins, bins_of(table, targets), strict=True)))
            for name, table in (probabilities | raw).items()
        },
        answered={name: accuracy_answered(table, targets) for name, table in probabilities.items()},
        confusion={
            name: confusion_matrix(targets, table.argmax(axis=1), labels=classes)
            for name, table in probabilities.items()
        },
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


def write_curves(curves: Curves, more: dict[str, pd.DataFrame], path: Path) -> None:
    """Write the curves, and more tables by name, as dvc.yaml's plots read them."""
    tables = more | {f"reliability_{name}": table for name, table in curves.reliability.items()}
    for name in MODELS:
        false, true = curves.roc[name]
        tables[f"answered_{name}"] = curves.answered[name]
        tables[f"roc_{name}"] = pd.DataFrame(
            {"false_positive_rate": false, "true_positive_rate": true}
        )
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
CLASSES = 20  # up to which each is a group, and the confusion matrix is drawn
WORST = 10  # classes that are groups where there are more
COLUMNS = ["id", "change", "text", "label", "base_predicted", "base_confidence"]
COLUMNS += ["adapter_predicted", "adapter_confidence", "words", "negation", "contrast"]


def find_flips(base: pd.DataFrame, adapter: pd.DataFrame, test: pd.DataFrame) -> Flips:
    """Return the flipped rows, counted by group, and the adapter's surest mistakes.

    Args:
        base: predictions of the base, `predictions.aligned` with those of the adapter.
        adapter: predictions of the adapter, row by row those of the base.
        test: the prepared test rows, of the same ids: id, text and maybe rating.
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
        groups=count_groups(rows, right["base"], right["adapter"]),
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
    rows: pd.DataFrame, right_base: "pd.Series[bool]", right_adapter: "pd.Series[bool]"
) -> list[Group]:
    """Return the gain by class, confidence of both, length, negation and contrast."""
    found = [each for each in groupings(rows, right_adapter) if each[2].any()]
    kinds = Counter(kind for kind, _, _ in found)  # one group of a kind says nothing
    groups = [each for each in found if kinds[each[0]] > 1]
    return [
        Group(
            kind,
            name,
            paired_gain(
                right_base[chosen].to_numpy(), right_adapter[chosen].to_numpy(), len(groups)
            ),
        )
        for kind, name, chosen in groups
    ]


def groupings(
    rows: pd.DataFrame, right: "pd.Series[bool]"
) -> list[tuple[str, str, "pd.Series[bool]"]]:
    """Return (kind, name, which rows) of each group; the groups of a kind share no row.

    Of many classes only those are there in which the adapter has the most rows wrong.
    """
    words = rows["words"]
    low, high = CONFIDENCE
    short, long = (int(words.quantile(q)) for q in (1 / 3, 2 / 3))
    middle = f"{short + 1} to {long} words" if long > short + 1 else f"{long} words"
    wrong = (
        rows["label"][~right]
        .value_counts()
        .sort_index()
        .sort_values(ascending=False, kind="stable")
    )
    classes = sorted(rows["label"].unique())
    shown = classes if len(classes) <= CLASSES else [str(name) for name in wrong.index[:WORST]]
    groups = [("class", name, rows["label"] == name) for name in shown]
    for model in ("adapter", "base"):
        sure = rows[f"{model}_confidence"]
        groups += [
            (f"{model}'s confidence", f"below {100 * low:.0f} %", sure < low),
            (f"{model}'s confidence", f"{100 * low:.0f} to {100 * high:.0f} %",
             sure.between(low, high)),
            (f"{model}'s confidence", f"above {100 * high:.0f} %", sure > high),
        ]  # fmt: skip
    return [
        *groups,
        ("length", f"up to {short} words", words <= short),
        ("length", middle, (words > short) & (words <= long)),
        ("length", f"more than {long} words", words > long),
        ("negation", "with a negation", rows["negation"]),
        ("negation", "without a negation", ~rows["negation"]),
        ("contrast", "with a contrast word", rows["contrast"]),
        ("contrast", "without a contrast word", ~rows["contrast"]),
    ]


def write_rows(rows: pd.DataFrame, path: Path) -> None:
    """Write rows of `Flips` as a CSV file."""
    with replacing(path) as temporary:
        rows.to_csv(temporary, index=False, float_format="%.6g", lineterminator="\n")
