"""The headline scores against formulas written out here, and where the classes are uneven."""

from __future__ import annotations

import math

import numpy as np
import pytest

from stages.scoring.metric import score
from stages.scoring.scores import (
    bins_of,
    brier_score,
    calibration_error,
    confidence_scores,
    headline_scores,
    majority_accuracy,
)


def by_formula(table: np.ndarray, targets: list[int]) -> dict[str, float]:
    """Return the scores from counts alone, row by row and class by class."""
    said = [max(range(len(row)), key=lambda n: row[n]) for row in table.tolist()]
    pairs = list(zip(said, targets, strict=True))
    f1 = []
    for n in range(table.shape[1]):
        hit = sum(a == b == n for a, b in pairs)
        either = sum(a == n for a, _ in pairs) + sum(b == n for _, b in pairs)
        if n in targets:
            f1.append(2 * hit / either)
    losses = [-math.log(row[target]) for row, target in zip(table.tolist(), targets, strict=True)]
    return {
        "accuracy": sum(a == b for a, b in pairs) / len(pairs),
        "f1_macro": sum(f1) / len(f1),
        "log_loss": sum(losses) / len(losses),
    }


@pytest.mark.parametrize("classes", [2, 3, 7])
def test_scores_are_those_of_the_formulas(classes: int) -> None:
    chance = np.random.default_rng(classes)
    for rows in (1, 2, 40):
        table = chance.dirichlet(np.ones(classes), size=rows)
        targets = chance.integers(classes, size=rows).tolist()
        found = headline_scores(table, targets)
        assert found == pytest.approx(by_formula(table, targets), rel=1e-9)
        assert score(table, targets) == found  # the metric of the library `evaluate`
        assert all(type(value) is float for value in found.values())  # JSON knows no numpy


def test_of_equals_the_first_class_is_predicted() -> None:
    table = np.array([[0.5, 0.5], [0.5, 0.5], [0.5, 0.5]])
    assert headline_scores(table, [0, 0, 1])["accuracy"] == pytest.approx(2 / 3)
    assert headline_scores(table, [0, 0, 1])["log_loss"] == pytest.approx(math.log(2))


def test_test_rows_of_one_class_have_scores() -> None:
    found = headline_scores(np.array([[0.2, 0.8], [0.4, 0.6]]), [1, 1])
    assert found["accuracy"] == 1
    assert found["f1_macro"] == 1  # a class without rows has none
    assert found["log_loss"] == pytest.approx(-(math.log(0.8) + math.log(0.6)) / 2)


def test_a_perfect_model_has_a_macro_f1_of_1_whichever_classes_the_test_rows_have() -> None:
    assert headline_scores(np.eye(3)[[0, 1, 0, 1]], [0, 1, 0, 1])["f1_macro"] == 1
    wrong = headline_scores(np.eye(3)[[0, 1, 0, 2]], [0, 1, 0, 1])["f1_macro"]
    assert wrong == pytest.approx((1 + 2 / 3) / 2)


@pytest.mark.parametrize(
    ("train", "test", "expected"),
    [
        ([0, 1, 1], [1, 1, 0, 0], 0.5),
        ([2], [0, 1], 0.0),
        ([0, 1], [0, 0, 1], 2 / 3),
        ([0, 1, 2], [1, 2, 2], 2 / 3),
    ],
)
def test_the_majority_is_counted_in_training(
    train: list[int], test: list[int], expected: float
) -> None:
    assert majority_accuracy(train, test) == pytest.approx(expected)


def test_calibration_by_hand() -> None:
    table = np.array([[0.9, 0.1], [0.91, 0.09], [0.6, 0.4], [0.55, 0.45]])
    targets = np.array([0, 1, 0, 1])
    confidence, accuracy, rows = bins_of(table, targets)
    assert rows.tolist() == [1, 1, 2]
    assert confidence == pytest.approx(np.array([0.55, 0.6, 0.905]))
    assert accuracy == pytest.approx(np.array([0, 1, 0.5]))
    assert calibration_error(table, targets) == pytest.approx((0.55 + 0.4 + 2 * 0.405) / 4)


def test_fifteen_bins_of_equal_width() -> None:
    surest = np.array([0.5, 0.53, 0.54, 0.61, 0.66, 0.69, 0.93, 0.94, 1.0])
    _, _, rows = bins_of(np.stack([1 - surest, surest], axis=1), np.ones(9, dtype=int))
    # Edges at 8/15 = 0.533, 10/15 = 0.667, 14/15 = 0.933; 1.0 belongs to the last bin.
    assert rows.tolist() == [2, 1, 2, 1, 1, 2]


def test_certain_and_wrong_is_finite() -> None:
    found = confidence_scores(np.array([[1.0, 0.0]]), np.array([1]))
    assert math.isfinite(found["log_loss"])
    assert (found["brier"], found["calibration_error"]) == (2, 1)


@pytest.mark.parametrize("classes", [2, 3, 7])
def test_the_brier_score_is_the_squared_distance_to_the_true_class(classes: int) -> None:
    chance = np.random.default_rng(classes)
    table = chance.dirichlet(np.ones(classes), size=50)
    targets = chance.integers(classes, size=50)
    distances = ((table - np.eye(classes)[targets]) ** 2).sum(axis=1)
    assert brier_score(table, targets) == pytest.approx(float(distances.mean()), rel=1e-12)
