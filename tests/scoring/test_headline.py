"""The headline scores against formulas written out here, and where the classes are uneven."""

from __future__ import annotations

import math

import numpy as np
import pytest

from stages.scoring.headline import headline_scores, majority_accuracy
from tests.support.tiny import new_process


def by_formula(table: np.ndarray, targets: list[int]) -> dict[str, float]:
    """Return the scores from counts alone, row by row and class by class."""
    said = [max(range(len(row)), key=lambda n: row[n]) for row in table.tolist()]
    pairs = list(zip(said, targets, strict=True))
    f1 = []
    for n in range(table.shape[1]):
        hit = sum(a == b == n for a, b in pairs)
        either = sum(a == n for a, _ in pairs) + sum(b == n for _, b in pairs)
        f1.append(2 * hit / either if either else 0.0)
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
        assert all(type(value) is float for value in found.values())  # JSON knows no numpy


def test_of_equals_the_first_class_is_predicted() -> None:
    table = np.array([[0.5, 0.5], [0.5, 0.5], [0.5, 0.5]])
    assert headline_scores(table, [0, 0, 1])["accuracy"] == pytest.approx(2 / 3)
    assert headline_scores(table, [0, 0, 1])["log_loss"] == pytest.approx(math.log(2))


def test_test_rows_of_one_class_have_scores() -> None:
    found = headline_scores(np.array([[0.2, 0.8], [0.4, 0.6]]), [1, 1])
    assert found["accuracy"] == 1
    assert found["f1_macro"] == 0.5
    assert found["log_loss"] == pytest.approx(-(math.log(0.8) + math.log(0.6)) / 2)


@pytest.mark.parametrize(
    ("train", "test", "expected"),
    [([0, 1, 1], [1, 1, 0, 0], 0.5), ([2], [0, 1], 0.0), ([0, 1], [0, 0, 1], 2 / 3)],
)
def test_the_majority_is_counted_in_training(
    train: list[int], test: list[int], expected: float
) -> None:
    assert majority_accuracy(train, test) == pytest.approx(expected)


def test_no_torch_is_imported() -> None:
    code = "import sys, numpy; from stages.scoring.headline import headline_scores\n"
    code += "headline_scores(numpy.array([[0.2, 0.8]]), [1]); assert 'torch' not in sys.modules"
    process = new_process(code)
    output, _ = process.communicate()
    assert process.returncode == 0, output
