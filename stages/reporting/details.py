"""Every score of a model on the test rows, beyond the headline: by class, and of its confidence."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from stages.reporting.significance import wilson
from stages.scoring.scores import confidence_scores
from stages.scoring.temperature import with_temperature

if TYPE_CHECKING:  # heavy libraries are imported once the params have been checked
    import numpy as np

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
        temperature: divides the logits; fitted on validation rows.

    Returns:
        matthews (Matthews 1975; Gorodkin 2004 for several classes); roc_auc (one-vs-rest mean
        for several classes); brier (Brier 1950: mean squared distance to the true class, summed
        over classes, 0 to 2); calibration_error (expected calibration error of the predicted
        class, 15 bins of equal width: Guo et al. 2017, arXiv 1706.04599); log_loss in nats; the
        last three also `_scaled`, after temperature scaling; accuracy_at_80 and _at_90 percent
        coverage: of the surest rows alone (El-Yaniv & Wiener 2010); and by class precision,
        recall, f1 and rows.
    """
    from sklearn import metrics

    predicted = probabilities.argmax(axis=1)
    right = predicted == targets
    numbers = range(len(labels))
    precision, recall, f1, rows = metrics.precision_recall_fscore_support(
        targets, predicted, labels=numbers, zero_division=0
    )
    low, high = wilson(int(right.sum()), len(right))
    scaled = with_temperature(probabilities, temperature)
    return {
        "accuracy": float(right.mean()),
        "accuracy_low": low,
        "accuracy_high": high,
        **{f"accuracy_at_{c}": accuracy_at_coverage(probabilities, targets, c) for c in COVERAGES},
        "f1_macro": float(f1.mean()),
        "matthews": float(metrics.matthews_corrcoef(targets, predicted)),
        "roc_auc": roc_auc(probabilities, targets),
        **confidence_scores(probabilities, targets),
        **{f"{k}_scaled": v for k, v in confidence_scores(scaled, targets).items()},
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
    import numpy as np
    from sklearn.metrics import roc_auc_score

    classes = [1] if probabilities.shape[1] == 2 else range(probabilities.shape[1])
    areas = [
        roc_auc_score(targets == n, probabilities[:, n])
        for n in classes
        if 0 < (targets == n).sum() < len(targets)
    ]
    return float(np.mean(areas)) if areas else None


def accuracy_at_coverage(probabilities: Array, targets: Numbers, percent: int) -> float:
    """Return the accuracy on the surest `percent` of the rows; ties keep the rows' order."""
    import numpy as np

    confidence = probabilities.max(axis=1)
    kept = np.argsort(-confidence, kind="stable")[: max(1, round(len(targets) * percent / 100))]
    return float((probabilities[kept].argmax(axis=1) == targets[kept]).mean())
