"""The statistics: by hand, against other implementations, and by simulation."""

from __future__ import annotations

import math
from math import comb

import numpy as np
import pytest
from scipy import stats

from stages.reporting.significance import (
    RESAMPLES,
    interval,
    mcnemar_p,
    paired_gain,
    resampled_gains,
    row_interval,
    smallest_gain,
    spread,
    wilson,
)


def outcomes(both: int, fixed: int, broken: int, neither: int) -> tuple[np.ndarray, np.ndarray]:
    first = [True] * both + [False] * fixed + [True] * broken + [False] * neither
    second = [True] * both + [True] * fixed + [False] * broken + [False] * neither
    return np.array(first), np.array(second)


def test_a_case_by_hand() -> None:
    gain = paired_gain(*outcomes(both=5, fixed=4, broken=1, neither=0), seed=1)
    assert (gain.rows, gain.fixed, gain.broken) == (10, 4, 1)
    assert (gain.first, gain.second, gain.gain) == (0.6, 0.9, 0.3)
    assert gain.p == pytest.approx(2 * (1 + 5) / 32)
    assert gain.smallest == 0.6  # six rows one way
    assert not gain.distinguishable


@pytest.mark.parametrize(("fixed", "broken"), [(0, 0), (5, 0), (3, 9), (30, 12), (7, 7), (400, 90)])
def test_mcnemar_is_the_exact_binomial_test(fixed: int, broken: int) -> None:
    flipped, fewer = fixed + broken, min(fixed, broken)
    tail = sum(comb(flipped, k) for k in range(fewer + 1)) / 2**flipped
    assert mcnemar_p(fixed, broken) == pytest.approx(min(1, 2 * tail), rel=1e-9)
    if flipped:
        expected = stats.binomtest(fixed, flipped).pvalue
        assert mcnemar_p(fixed, broken) == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize(
    "counts", [(700, 60, 30, 210), (80, 10, 10, 0), (0, 40, 0, 60), (10, 2, 1, 7), (0, 30, 20, 0)]
)
def test_the_interval_is_that_of_resampled_rows(counts: tuple[int, int, int, int]) -> None:
    first, second = outcomes(*counts)
    differences = second.astype(int) - first.astype(int)
    drawn = np.random.default_rng(99).integers(len(differences), size=(RESAMPLES, len(differences)))
    plain = np.percentile(differences[drawn].mean(axis=1), [2.5, 97.5])
    gain = paired_gain(first, second, seed=1)
    # A percentile of 10,000 resamples has a standard error of its own.
    error = max(1 / gain.rows, 4 * differences.std() / gain.rows**0.5 * 0.03) + 1e-9
    assert (gain.low, gain.high) == pytest.approx(tuple(plain), abs=error)
    assert row_interval(differences.astype(float), seed=1) == pytest.approx(tuple(plain), abs=error)


def test_the_interval_agrees_with_the_bootstrap_of_scipy() -> None:
    first, second = outcomes(600, 120, 60, 220)
    differences = (second.astype(float) - first.astype(float),)
    theirs = stats.bootstrap(
        differences, np.mean, n_resamples=5000, method="percentile", rng=np.random.default_rng(3)
    ).confidence_interval
    ours = paired_gain(first, second, seed=1)
    assert (ours.low, ours.high) == pytest.approx(tuple(theirs), abs=0.003)


def test_the_seed_alone_decides_the_interval() -> None:
    pairs = outcomes(300, 80, 40, 83)
    first, again, other = (paired_gain(*pairs, seed=seed) for seed in (1, 1, 2))
    assert first == again
    assert (first.low, first.high) != (other.low, other.high)
    resamples = resampled_gains(80, 40, 503, seed=1)
    assert len(resamples) == RESAMPLES >= 10_000
    assert interval(resamples) == (first.low, first.high)


@pytest.mark.parametrize(("first", "second"), [([], []), ([True], [True, False])])
def test_arrays_that_are_no_pairs_are_refused(first: list[bool], second: list[bool]) -> None:
    with pytest.raises(ValueError, match="two arrays of one length"):
        paired_gain(np.array(first, dtype=bool), np.array(second, dtype=bool), seed=1)


@pytest.mark.parametrize("flipped", range(61))
def test_the_smallest_gain_is_the_least_that_is_significant(flipped: int) -> None:
    rows = 100
    found = round(smallest_gain(flipped, rows) * rows)
    counted = max(flipped, 6)
    significant = [
        fixed - broken
        for fixed in range(counted + 1)
        if (broken := counted - fixed) < fixed and mcnemar_p(fixed, broken) < 0.05
    ]
    assert found == min(significant)


@pytest.mark.parametrize(("right", "rows"), [(0, 10), (10, 10), (7, 10), (891, 1066), (1, 1)])
def test_wilson_is_its_formula(right: int, rows: int) -> None:
    z, share = stats.norm.ppf(0.975), right / rows
    centre = (share + z * z / (2 * rows)) / (1 + z * z / rows)
    half = z / (1 + z * z / rows) * math.sqrt(share * (1 - share) / rows + z * z / (4 * rows**2))
    assert wilson(right, rows) == pytest.approx((centre - half, centre + half), abs=1e-9)
    theirs = stats.binomtest(right, rows).proportion_ci(method="wilson")
    assert wilson(right, rows) == pytest.approx((theirs.low, theirs.high), abs=1e-9)


def test_the_spread_of_several_seeds() -> None:
    found = spread([0.85, 0.86, 0.84, 0.87, 0.83])
    assert (found.mean, found.sd) == pytest.approx((0.85, math.sqrt(0.001 / 4)))
    theirs = stats.t.interval(0.95, 4, loc=found.mean, scale=found.sd / math.sqrt(5))
    assert (found.low, found.high) == pytest.approx(theirs)
    one = spread([0.5])
    assert (one.mean, one.sd, one.low, one.high) == (0.5, 0.0, -math.inf, math.inf)
    with pytest.raises(ValueError, match="no values"):
        spread([])


def test_the_interval_covers_the_truth_and_the_test_rejects_a_true_null_rarely() -> None:
    chance = np.random.default_rng(7)
    tests, rows = 2000, 400
    covered = rejected = 0
    for number in range(tests):
        both, fixed, broken, _ = chance.multinomial(rows, [0.6, 0.16, 0.08, 0.16])
        gain = paired_gain(*outcomes(both, fixed, broken, rows - both - fixed - broken), number)
        covered += gain.low <= 0.08 <= gain.high
        fixed, broken, _ = chance.multinomial(rows, [0.1, 0.1, 0.8])
        rejected += mcnemar_p(fixed, broken) < 0.05
    # Four standard errors of a share of 2,000 are 2 points.
    assert 0.93 <= covered / tests <= 0.97
    assert 0.02 <= rejected / tests <= 0.055  # exact tests are conservative


def test_wilson_and_the_interval_of_seeds_cover_the_truth() -> None:
    chance = np.random.default_rng(8)
    tests = 2000
    rights = chance.binomial(300, 0.85, tests)
    wilsons = [low <= 0.85 <= high for low, high in (wilson(int(r), 300) for r in rights)]
    spreads = [spread(list(values)) for values in chance.normal(0.85, 0.01, (tests, 5))]
    covered = [found.low <= 0.85 <= found.high for found in spreads]
    assert 0.93 <= np.mean(wilsons) <= 0.97
    assert 0.93 <= np.mean(covered) <= 0.97
