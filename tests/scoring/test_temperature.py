"""Temperature scaling: known temperatures are found again, and nothing else changes."""

from __future__ import annotations

import numpy as np
import pytest

from stages.scoring.logits import fit_temperature
from stages.scoring.scores import with_temperature


def softmax(logits: np.ndarray) -> np.ndarray:
    powers = np.exp(logits - logits.max(axis=1, keepdims=True))
    return np.asarray(powers / powers.sum(axis=1, keepdims=True))


@pytest.mark.parametrize("true", [0.5, 1.0, 3.0])
@pytest.mark.parametrize("classes", [2, 5])
def test_a_known_temperature_is_found(true: float, classes: int) -> None:
    chance = np.random.default_rng(4)
    logits = chance.normal(0, 2, (20_000, classes))
    drawn = chance.random((len(logits), 1)) > softmax(logits).cumsum(axis=1)
    found = fit_temperature(softmax(logits * true), drawn.sum(axis=1).tolist())
    assert found == pytest.approx(true, rel=0.05)


def test_probabilities_are_those_of_the_divided_logits() -> None:
    logits = np.array([[1.0, -2.0, 0.5], [30.0, 0.0, -30.0]])
    assert with_temperature(softmax(logits), 2.5) == pytest.approx(softmax(logits / 2.5), abs=1e-9)


@pytest.mark.parametrize("temperature", [0.01, 1.0, 100.0])
def test_no_prediction_changes_and_certainty_stays_finite(temperature: float) -> None:
    table = np.array([[1.0, 0.0], [0.4, 0.6], [0.0, 1.0]])
    scaled = with_temperature(table, temperature)
    assert (scaled.argmax(axis=1) == table.argmax(axis=1)).all()
    assert np.isfinite(scaled).all()
    assert scaled.sum(axis=1) == pytest.approx(np.ones(3))


def test_a_few_rows_without_a_mistake_leave_the_temperature_near_1() -> None:
    clean = np.tile([[0.95, 0.05], [0.08, 0.92]], (10, 1))
    assert 0.75 < fit_temperature(clean, [0, 1] * 10) <= 1
    assert 0.9 < fit_temperature(clean[:2], [0, 1]) <= 1
    unsure = np.array([[0.9, 0.1], [0.2, 0.8], [0.7, 0.3], [0.4, 0.6]] * 5)
    assert 0.55 < fit_temperature(unsure, [0, 1] * 10) <= 1


@pytest.mark.parametrize("rows", [12, 30, 100, 1000])
@pytest.mark.parametrize(("classes", "width"), [(2, 3.0), (6, 2.5), (2, 8.0)])
@pytest.mark.parametrize("true", [1.0, 3.0])
def test_a_fitted_temperature_costs_next_to_nothing_on_other_rows(
    rows: int, classes: int, width: float, true: float
) -> None:
    """Mean over 20 draws of the expected log loss after scaling, minus that before."""
    chance = np.random.default_rng(rows)
    differences = []
    for _ in range(20):
        logits = chance.normal(0, width, (rows + 1000, classes))
        truth = softmax(logits)
        drawn = (chance.random((rows, 1)) > truth[:rows].cumsum(axis=1)).sum(axis=1)
        seen = softmax(logits * true)
        found = fit_temperature(seen[:rows], drawn.tolist())
        losses = [
            -(truth[rows:] * np.log(with_temperature(seen[rows:], t))).sum(axis=1).mean()
            for t in (found, 1.0)
        ]
        differences.append(losses[0] - losses[1])
    assert np.mean(differences) < 0.02
    if rows >= 100 and true > 1:
        assert np.mean(differences) < -0.02  # what there is to gain is gained
