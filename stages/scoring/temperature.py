"""Temperature scaling (Guo et al. 2017, arXiv 1706.04599): one number that mends confidence.

Logits divided by a temperature keep their order, so no prediction changes; above 1 the model says
less surely what it says. No torch in here.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:  # heavy libraries are imported once the params are known to be right
    import numpy as np

    Array = np.ndarray[Any, np.dtype[np.float64]]

BOUNDS = (-5.0, 5.0)  # of the temperature's natural logarithm


def fit_temperature(probabilities: Array, targets: list[int]) -> float:
    """Return the temperature with the least log loss on these rows, from exp(-5) to exp(5).

    Args:
        probabilities: shape (rows, classes), of rows that were not trained on.
        targets: true label numbers.
    """
    import numpy as np
    from scipy.optimize import minimize_scalar

    rows = np.arange(len(targets))

    def log_loss(log_temperature: float) -> float:
        scaled = with_temperature(probabilities, float(np.exp(log_temperature)))
        return float(-np.log(np.maximum(scaled[rows, targets], _tiny())).mean())

    found = minimize_scalar(log_loss, bounds=BOUNDS, method="bounded", options={"xatol": 1e-6})
    return float(np.exp(found.x))


def with_temperature(probabilities: Array, temperature: float) -> Array:
    """Return the probabilities that the logits divided by `temperature` would give."""
    import numpy as np

    # The log of a probability is the logit up to a constant of the row, which softmax ignores.
    logits = np.log(np.maximum(probabilities, _tiny())) / temperature
    powers = np.exp(logits - logits.max(axis=1, keepdims=True))
    scaled: Array = powers / powers.sum(axis=1, keepdims=True)
    return scaled


def _tiny() -> float:
    """Return the least normal number: the log of a probability of 0 is taken of it."""
    import numpy as np

    return float(np.finfo(np.float64).tiny)
