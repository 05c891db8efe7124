"""The figures of metrics/comparison.json against a case by hand."""

from __future__ import annotations

import numpy as np
import pytest

from stages.reporting.ladder import comparison_figures
from stages.reporting.significance import paired_gain


def test_a_case_by_hand() -> None:
    base = np.array([True] * 5 + [False] * 5)
    adapter = np.array([False] + [True] * 8 + [False])
    figures = comparison_figures(paired_gain(base, adapter, seed=1))
    assert (figures["rows"], figures["fixed"], figures["broken"]) == (10, 4, 1)
    assert (figures["accuracy_base"], figures["accuracy_adapter"]) == (0.5, 0.8)
    assert figures["accuracy_gain"] == pytest.approx(0.3)
    assert figures["accuracy_base_low"] == pytest.approx(0.236593)  # Wilson, 5 of 10
    assert figures["accuracy_base_high"] == pytest.approx(0.763407)
    assert figures["mcnemar_p"] == 0.375  # 2 * (1 + 5) / 2**5


def test_a_tiny_p_is_not_rounded_to_zero() -> None:
    base, adapter = np.zeros(100, dtype=bool), np.ones(100, dtype=bool)
    assert 0 < comparison_figures(paired_gain(base, adapter, seed=1))["mcnemar_p"] < 1e-29
