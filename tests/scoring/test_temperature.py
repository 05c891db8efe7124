"""Temperature scaling: known temperatures are found again, and nothing else changes."""

from __future__ import annotations

import numpy as np
import pytest

from stages.scoring.temperature import fit_temperature, with_temperature


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


def test_a_model_that_is_never_wrong_gets_a_finite_temperature() -> None:
    assert 0 < fit_temperature(np.array([[0.9, 0.1], [0.2, 0.8]]), [0, 1]) < 0.1
