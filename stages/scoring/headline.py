"""The headline scores: the few figures that DVC shows of each model. No torch in here."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:  # heavy libraries are imported once the params are known to be right
    import numpy as np

    Array = np.ndarray[Any, np.dtype[np.float64]]


def headline_scores(probabilities: Array, targets: list[int]) -> dict[str, float]:
    """Return accuracy, f1_macro and log_loss (nats) of probabilities (rows, classes).

    The predicted class is the likeliest one, the first of equals. A class without rows counts
    as an F1 of 0.
    """
    from sklearn.metrics import accuracy_score, f1_score, log_loss

    classes = range(probabilities.shape[1])
    predicted = probabilities.argmax(axis=1)
    return {
        "accuracy": float(accuracy_score(targets, predicted)),
        "f1_macro": float(
            f1_score(targets, predicted, labels=classes, average="macro", zero_division=0)
        ),
        "log_loss": float(log_loss(targets, probabilities, labels=classes)),
    }


def majority_accuracy(train: list[int], test: list[int]) -> float:
    """Return the accuracy on test of always saying the most frequent label number of train."""
    import numpy as np

    return float(np.mean(np.array(test) == np.bincount(train).argmax()))
