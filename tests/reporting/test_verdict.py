"""A comparison in one sentence, and p-values for people."""

from __future__ import annotations

import numpy as np
import pytest

from stages.reporting.answer import caveats
from stages.reporting.results import between, points, shown_p, verdict
from stages.reporting.significance import Gain, paired_gain


def gain_of(**changes: float) -> Gain:
    values = {"rows": 1057, "fixed": 100, "broken": 34, "first": 0.75, "second": 0.8125}
    values |= {"low": 0.031, "high": 0.094, "p": 0.0042, "smallest": 0.02}
    return Gain(**(values | changes))  # type: ignore[arg-type]  # rows are whole numbers


def test_a_clear_gain_in_one_sentence() -> None:
    assert verdict(gain_of(), ("base", "adapter")) == (
        "base 75.0 %, adapter 81.2 %: gain +6.2 points, 95 % interval 3.1 to 9.4, p = 0.004 "
        "on 1,057 rows (100 fixed, 34 broken)"
    )


@pytest.mark.parametrize(("p", "clear"), [(0.049, True), (0.05, False), (1.0, False)])
def test_a_gain_that_may_be_zero_is_called_so(p: float, clear: bool) -> None:
    sentence = verdict(gain_of(p=p), ("a", "b"))
    assert sentence.endswith("broken)" if clear else "not distinguishable from zero")


def test_a_loss_is_shown_as_one() -> None:
    lost = gain_of(fixed=34, broken=100, first=0.8125, second=0.75, low=-0.094, high=-0.031)
    assert "gain -6.2 points, 95 % interval -9.4 to -3.1," in verdict(lost, ("a", "b"))


@pytest.mark.parametrize(
    ("p", "shown"),
    [
        (1.0, "p = 1.000"),
        (0.001, "p = 0.001"),
        (0.00099, "p < 1e-3"),
        (3e-9, "p < 1e-8"),
        (1e-300, "p < 1e-15"),
        (0.0, "p < 1e-15"),
    ],
)
def test_a_small_p_is_bounded_from_above(p: float, shown: str) -> None:
    assert shown_p(p) == shown


def test_a_difference_in_points_is_never_minus_zero() -> None:
    assert [points(value) for value in (0.1234, -0.05, 0.0)] == ["+12.3", "-5.0", "+0.0"]
    assert [points(value) for value in (-0.0004, -0.0006)] == ["+0.0", "-0.1"]
    assert between(0.0, 0.1234) == "0.0 to 12.3"


@pytest.mark.parametrize(
    ("low", "high", "shown"), [(-0.0004, 0.12, "-0.04 to 12.00"), (3e-6, 0.1, "0.0003 to 10.0000")]
)
def test_an_end_that_decides_is_not_rounded_to_zero(low: float, high: float, shown: str) -> None:
    assert between(low, high) == shown


PLENTY = {"rows_train": 8000, "rows_validation": 1000}


@pytest.mark.parametrize(
    ("rows", "data", "kept", "said"),
    [
        (1000, PLENTY, "trained", []),
        (1000, PLENTY, "base", ["No trained weights were better than the base"]),
        (40, PLENTY, "trained", ["40 test rows: the adapter's accuracy lies anywhere from 35 to"]),
        (1000, {**PLENTY, "rows_train": 86}, "trained", ["86 rows to train on, 14 a class"]),
        (1000, {**PLENTY, "rows_validation": 10}, "trained", ["10 validation rows: too few"]),
        (1000, {"rows_train": 86, "rows_validation": 10}, "base", ["No", "86 rows", "10 valid"]),
    ],
)
def test_few_rows_and_a_kept_base_are_said(
    rows: int, data: dict[str, int], kept: str, said: list[str]
) -> None:
    half = np.arange(rows) % 2 == 0
    found = caveats(paired_gain(~half, half), data, 6, kept)
    assert len(found) == len(said)
    assert all(line.startswith(start) for line, start in zip(found, said, strict=True))
