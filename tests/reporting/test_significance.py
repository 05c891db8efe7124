"""The statistics: by hand, by exact sums, and by simulation."""

import math
from functools import cache
from itertools import product
from math import comb

import numpy as np
import pytest
from scipy import stats

from stages.reporting.significance import (
    difference_of_means,
    gain_interval,
    mcnemar_p,
    paired_gain,
    smallest_gain,
    spread,
)


def outcomes(both: int, fixed: int, broken: int, neither: int) -> tuple[np.ndarray, np.ndarray]:
    first = [True] * both + [False] * fixed + [True] * broken + [False] * neither
    second = [True] * both + [True] * fixed + [False] * broken + [False] * neither
    return np.array(first), np.array(second)


def test_a_case_by_hand() -> None:
    gain = paired_gain(*outcomes(both=5, fixed=4, broken=1, neither=0))
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


@pytest.mark.parametrize("looks", [1, 14])
def test_the_interval_leaves_out_zero_where_the_test_rejects(looks: int) -> None:
    rows, rejected = 60, 0
    for fixed, broken in product(range(25), repeat=2):
        gain = paired_gain(*outcomes(0, fixed, broken, rows - fixed - broken), looks)
        assert gain.distinguishable == (gain.low > 1e-12 or gain.high < -1e-12), (fixed, broken)
        assert -1 <= gain.low - 1e-12 <= gain.gain <= gain.high + 1e-12 <= 1.1
        rejected += gain.distinguishable
    assert 100 < rejected < 600


def test_five_rows_one_way_are_no_gain_and_no_interval_above_zero() -> None:
    gain = paired_gain(*outcomes(both=95, fixed=5, broken=0, neither=0))
    assert gain.p == 0.0625
    assert gain.low < 0 < gain.high


@cache
def interval(fixed: int, broken: int, rows: int) -> tuple[float, float]:
    return gain_interval(fixed, broken, rows)


@pytest.mark.parametrize("rows", [20, 100, 360, 1057])
def test_the_interval_covers_the_truth_with_few_flips(rows: int) -> None:
    # Exactly: the sum over all outcomes, for half a flip to 20 flips, from half to all of them
    # fixed. Resampling rows covered as little as 40 % here.
    for flips, fixed_share in product((0.5, 1, 2, 4, 8, 12), (0.5, 0.65, 0.8, 0.9, 0.97, 1)):
        fixed, broken = (flips / rows * share for share in (fixed_share, 1 - fixed_share))
        covered = 0.0
        chances = stats.binom.pmf(np.arange(rows + 1), rows, fixed)
        for up in np.flatnonzero(chances > 1e-6):
            rest = stats.binom.pmf(np.arange(rows - up + 1), rows - up, broken / (1 - fixed))
            for down in np.flatnonzero(rest > 1e-6):
                low, high = interval(int(up), int(down), rows)
                covered += chances[up] * rest[down] * (low <= fixed - broken <= high)
        assert covered > 0.95, (flips, fixed_share)


def test_the_interval_is_near_the_bootstrap_where_many_rows_flip() -> None:
    draws = np.random.default_rng(3).multinomial(1057, [142 / 1057, 48 / 1057, 867 / 1057], 20_000)
    theirs = np.percentile((draws[:, 0] - draws[:, 1]) / 1057, [2.5, 97.5])
    assert gain_interval(142, 48, 1057) == pytest.approx(tuple(theirs), abs=0.003)


@pytest.mark.parametrize(("first", "second"), [([], []), ([True], [True, False])])
def test_arrays_that_are_no_pairs_are_refused(first: list[bool], second: list[bool]) -> None:
    with pytest.raises(ValueError, match="two arrays of one length"):
        paired_gain(np.array(first, dtype=bool), np.array(second, dtype=bool))


@pytest.mark.parametrize("flipped", range(0, 61, 5))
def test_the_smallest_gain_is_the_least_that_is_significant(flipped: int) -> None:
    rows = 100
    counted = max(flipped, 6)
    significant = [
        fixed - broken
        for fixed in range(counted + 1)
        if (broken := counted - fixed) < fixed and mcnemar_p(fixed, broken) < 0.05
    ]
    assert round(smallest_gain(flipped, rows) * rows) == min(significant)
    assert smallest_gain(flipped, 4) <= 1  # never more than all rows


def test_the_spread_of_several_seeds() -> None:
    found = spread([0.85, 0.86, 0.84, 0.87, 0.83])
    assert (found.mean, found.sd) == pytest.approx((0.85, math.sqrt(0.001 / 4)))
    theirs = stats.t.interval(0.95, 4, loc=found.mean, scale=found.sd / math.sqrt(5))
    assert (found.low, found.high) == pytest.approx(theirs)
    one = spread([0.5])
    assert (one.mean, one.sd, one.low, one.high) == (0.5, 0.0, -math.inf, math.inf)


def test_the_difference_of_two_methods_is_welchs() -> None:
    first, second = [0.85, 0.852, 0.848], [0.87, 0.872, 0.868, 0.871]
    theirs = stats.ttest_ind(first, second, equal_var=False).confidence_interval()
    found = difference_of_means(first, second)
    assert found[1:] == pytest.approx((theirs.low, theirs.high))
