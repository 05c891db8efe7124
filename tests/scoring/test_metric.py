"""The headline scores of known predictions, alone and as an `evaluate` metric."""

from __future__ import annotations

import math

import numpy as np
import pytest

from stages.scoring.metric import score
from stages.scoring.scores import headline_scores, majority_accuracy


def test_scores_of_known_predictions() -> None:
    probabilities = np.array(
        [[0.5, 0.25, 0.25], [0.6, 0.2, 0.2], [0.1, 0.8, 0.1], [0.125, 0.125, 0.75]]
    )
    scores = score(probabilities, [0, 1, 1, 2])
    assert scores == headline_scores(probabilities, [0, 1, 1, 2])
    assert scores == pytest.approx(
        {
            "accuracy": 3 / 4,
            "f1_macro": (2 / 3 + 2 / 3 + 1) / 3,
            "log_loss": -(math.log(0.5) + math.log(0.2) + math.log(0.8) + math.log(0.75)) / 4,
        },
        rel=1e-9,
    )


def test_a_class_without_rows_counts_as_zero_in_the_macro_mean() -> None:
    scores = score(np.array([[0.8, 0.1, 0.1], [0.1, 0.8, 0.1]]), [0, 1])
    assert scores["accuracy"] == 1
    assert scores["f1_macro"] == pytest.approx(2 / 3)


def test_a_certain_and_wrong_prediction_has_a_finite_loss() -> None:
    assert math.isfinite(score(np.array([[0.0, 1.0], [0.0, 1.0]]), [0, 1])["log_loss"])


def test_the_majority_is_that_of_the_training_rows() -> None:
    assert majority_accuracy([2, 2, 0], [0, 0, 2, 1]) == 0.25
