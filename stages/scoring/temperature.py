"""Temperature scaling (Guo et al. 2017, arXiv 1706.04599): one number that corrects confidence.

Logits divided by a temperature keep their order, so no prediction changes; above 1 the model is
less confident. No torch in here.

A few rows, or rows without a mistake, say little about confidence: their own likelihood is greatest
at a temperature near 0. So the fit counts PRIOR_ROWS further rows that are as right as the plain
probabilities say, whose likelihood is greatest at 1. In simulations of 12 to 1,000 rows that keeps
what there is to gain and costs nothing where there is nothing to correct.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from scipy.optimize import minimize_scalar
from scipy.special import softmax

from stages.scoring.scores import log_loss

Array = np.ndarray[Any, np.dtype[np.float64]]
BOUNDS = (-5.0, 5.0)  # of the temperature's natural logarithm
PRIOR_ROWS = 10
TINY = float(np.finfo(np.float64).tiny)  # in place of a probability of 0, which has no logarithm


def fit_temperature(probabilities: Array, targets: list[int]) -> float:
    """Return the temperature with the least log loss on these rows and PRIOR_ROWS of the prior.

    Args:
        probabilities: shape (rows, classes), of rows that were not trained on.
        targets: true label numbers.
    """
    weight = PRIOR_ROWS / len(targets)

    def loss(log_temperature: float) -> float:
        scaled = with_temperature(probabilities, float(np.exp(log_temperature)))
        expected = -(probabilities * np.log(np.maximum(scaled, TINY))).sum(axis=1).mean()
        return log_loss(scaled, targets) + weight * float(expected)

    best = minimize_scalar(loss, bounds=BOUNDS, method="bounded", options={"xatol": 1e-6})
    return float(np.exp(best.x))


def scaled_log_loss(probabilities: Array, targets: list[int]) -> float:
    """Return the log loss (nats) of the rows after the temperature that suits them best.

    What is left is how well the classes are told apart, without how well confidence fits
    (refinement: Berta et al. 2025, arXiv 2501.19195).

    Args:
        probabilities: shape (rows, classes).
        targets: true label numbers.
    """
    return log_loss(
        with_temperature(probabilities, fit_temperature(probabilities, targets)), targets
    )


def with_temperature(probabilities: Array, temperature: float) -> Array:
    """Return the probabilities that the logits divided by `temperature` would give."""
    # The log of a probability is the logit up to a constant of the row, which softmax ignores.
    scaled: Array = softmax(np.log(np.maximum(probabilities, TINY)) / temperature, axis=1)
    return scaled
