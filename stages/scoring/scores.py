"""Scores of class probabilities: the headline that DVC shows, and how good the confidence is.

No torch in here.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
from scipy.special import softmax
from sklearn import metrics

Array = np.ndarray[Any, np.dtype[np.float64]]
Numbers = np.ndarray[Any, np.dtype[np.int64]]

BINS = 15  # of the confidence
TINY = float(np.finfo(np.float64).tiny)  # in place of a probability of 0, which has no logarithm


def headline_scores(probabilities: Array, targets: Sequence[int] | Numbers) -> dict[str, float]:
    """Return accuracy, f1_macro and log_loss (nats) of probabilities (rows, classes).

    The predicted class is the likeliest one, the first of equals. A class without rows has no F1
    and is left out of the mean, as it is left out of a ROC AUC.
    """
    predicted = probabilities.argmax(axis=1)
    f1 = metrics.f1_score(
        targets, predicted, labels=np.unique(targets), average="macro", zero_division=0
    )
    return {
        "accuracy": float(metrics.accuracy_score(targets, predicted)),
        "f1_macro": float(f1),
        "log_loss": log_loss(probabilities, targets),
    }


def log_loss(probabilities: Array, targets: Sequence[int] | Numbers) -> float:
    """Return the mean negative log-likelihood of the true classes, in nats.

    scikit-learn clips: a probability below 2.2e-16, the float64 epsilon, counts as 2.2e-16.
    """
    classes = range(probabilities.shape[1])
    return float(metrics.log_loss(targets, probabilities, labels=classes))


def brier_score(probabilities: Array, targets: Sequence[int] | Numbers) -> float:
    """Return the mean squared distance to the true class, summed over classes, 0 to 2.

    Brier 1950, Monthly Weather Review 78:1.
    """
    classes = range(probabilities.shape[1])
    return float(
        metrics.brier_score_loss(targets, probabilities, labels=classes, scale_by_half=False)
    )


def confidence_scores(probabilities: Array, targets: Numbers) -> dict[str, float]:
    """Return log_loss (nats), brier and calibration_error of probabilities (rows, classes)."""
    return {
        "log_loss": log_loss(probabilities, targets),
        "brier": brier_score(probabilities, targets),
        "calibration_error": calibration_error(probabilities, targets),
    }


def calibration_error(probabilities: Array, targets: Numbers) -> float:
    """Return the expected calibration error of the predicted class, in 15 bins of equal width.

    Guo et al. 2017, arXiv 1706.04599: the mean difference of confidence and accuracy.
    """
    confidence, accuracy, rows = bins_of(probabilities, targets)
    return float((abs(confidence - accuracy) * rows).sum() / rows.sum())


def bins_of(probabilities: Array, targets: Numbers) -> tuple[Array, Array, Numbers]:
    """Return mean confidence, accuracy and row count of each bin of confidence that has rows."""
    confidence = probabilities.max(axis=1)
    right = probabilities.argmax(axis=1) == targets
    place = np.minimum((confidence * BINS).astype(int), BINS - 1)
    rows = np.bincount(place, minlength=BINS)
    used = rows > 0
    mean = np.bincount(place, confidence, BINS)[used] / rows[used]
    accuracy = np.bincount(place, right, BINS)[used] / rows[used]
    return mean, accuracy, rows[used]


def majority_accuracy(train: list[int], test: list[int]) -> float:
    """Return the accuracy on test of always predicting the most frequent label number of train.

    Of classes that are equally frequent in train it is the one with the most test rows.
    """
    counts = np.bincount(train)
    in_test = np.bincount(test, minlength=len(counts))
    return float(in_test[: len(counts)][counts == counts.max()].max() / len(test))


def with_temperature(probabilities: Array, temperature: float) -> Array:
    """Return the probabilities that the logits divided by `temperature` would give."""
    # The log of a probability is the logit up to a constant of the row, which softmax ignores.
    scaled: Array = softmax(np.log(np.maximum(probabilities, TINY)) / temperature, axis=1)
    return scaled
