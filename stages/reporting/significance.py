"""Is a difference between two models on the same rows real: its interval, its p-value, its limit.

Everything here is a function of counts and of right-or-wrong arrays, so the stage `compare`, the
comparison of two revisions and that of several seeds all say the same of the same rows.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from scipy.stats import binom, t, ttest_ind
from statsmodels.stats.contingency_tables import mcnemar
from statsmodels.stats.proportion import proportion_confint

Right = np.ndarray[Any, np.dtype[np.bool_]]

LEVEL = 0.95  # of every interval
ALPHA = 0.05  # of every test


@dataclass(frozen=True)
class Gain:
    """What the second model gains over the first on the same rows. Accuracies are shares."""

    rows: int  # that both scored
    fixed: int  # rows that only the second has right
    broken: int  # rows that only the first has right
    first: float  # accuracy of the first
    second: float  # accuracy of the second
    low: float  # lower end of the gain's 95 % interval
    high: float  # its upper end
    p: float  # exact McNemar p-value
    smallest: float  # the smallest gain that these rows could show, see `smallest_gain`

    @property
    def gain(self) -> float:
        """The difference of the two accuracies."""
        return (self.fixed - self.broken) / self.rows

    @property
    def distinguishable(self) -> bool:
        """Whether the gain differs from zero: the test rejects, and the interval leaves out 0."""
        return self.p < ALPHA


def paired_gain(first: Right, second: Right, looks: int = 1) -> Gain:
    """Return the gain of the second over the first from two arrays of right-or-wrong, (rows,).

    Args:
        first: which rows the first model has right.
        second: which the second, of the same length above 0.
        looks: how many such gains are looked at together. Interval and p are then corrected for
            that (Bonferroni), so that 95 % holds for all of them at once.
    """
    if len(first) != len(second) or not len(first):
        raise ValueError("two arrays of one length above 0 are needed")
    rows = len(first)
    fixed, broken = int((~first & second).sum()), int((first & ~second).sum())
    low, high = gain_interval(fixed, broken, rows, 1 - (1 - LEVEL) / looks)
    return Gain(
        rows=rows,
        fixed=fixed,
        broken=broken,
        first=float(first.mean()),
        second=float(second.mean()),
        low=low,
        high=high,
        p=min(1.0, looks * mcnemar_p(fixed, broken)),
        smallest=smallest_gain(fixed + broken, rows),
    )


def gain_interval(
    fixed: float, broken: float, rows: int, level: float = LEVEL
) -> tuple[float, float]:
    """Return an interval of a gain that leaves out 0 exactly where the exact McNemar test rejects.

    The gain is the product of two shares: how many rows flip, and by how much more of the flips
    are fixed than broken. Each has its Clopper-Pearson interval (1934); that of the second inverts
    the exact test. The two are combined as the limits of a product of independent estimates
    (MOVER: Zou, Taleban & Huo 2009, Computational Statistics & Data Analysis 53:3755). Exact sums
    over a grid of true shares, from half a flip upwards, give a coverage of at least 95 %.

    Args:
        fixed: rows that only the second model has right; a mean over seeds may be fractional.
        broken: rows that only the first has right.
        rows: how many rows.
        level: of the interval.
    """

    def lower(fixed: float, broken: float) -> float:
        flips = fixed + broken
        rate, balance = flips / rows, (fixed - broken) / flips if flips else 0.0
        low, high = clopper_pearson(flips, rows, level)
        step = balance - (2 * clopper_pearson(fixed, flips, level)[0] - 1)
        if step <= balance:  # significantly more fixed: the nearest to 0 is at the fewest flips
            way = rate - low
            return rate * balance - math.sqrt(
                (rate * step) ** 2 + (balance * way) ** 2 - (step * way) ** 2
            )
        way = high - rate
        spread = (rate * step) ** 2 + (min(balance, 0.0) * way) ** 2 + (step * way) ** 2
        return max(-1.0, rate * balance - math.sqrt(spread))

    return lower(fixed, broken), -lower(broken, fixed)


def clopper_pearson(count: float, rows: float, level: float = LEVEL) -> tuple[float, float]:
    """Return the exact interval of a share (Clopper & Pearson 1934); 0 to 1 without rows."""
    if not rows:
        return 0.0, 1.0
    low, high = proportion_confint(count, rows, alpha=1 - level, method="beta")
    return float(low), float(high)


def mcnemar_p(fixed: int, broken: int) -> float:
    """Return the exact two-sided McNemar p-value (McNemar 1947).

    Under no difference, each flipped row is fixed or broken with chance 1/2.
    """
    if not fixed + broken:
        return 1.0
    return float(mcnemar([[0, broken], [fixed, 0]], exact=True).pvalue)


def smallest_gain(flipped: int, rows: int) -> float:
    """Return the smallest gain that reaches p < 0.05 with so many flipped rows, at most 1.

    The critical value of the exact McNemar test, given the discordant pairs (McNemar 1947). With
    fewer than six flipped rows no split of them is significant; then it is six rows one way.
    """
    flipped = max(flipped, 6)
    # The largest count of the rarer kind that still rejects: P(X <= count) < ALPHA / 2.
    rarer = int(binom.ppf(ALPHA / 2, flipped, 0.5)) - 1
    return min(1.0, (flipped - 2 * rarer) / rows)


def wilson(right: float, rows: int) -> tuple[float, float]:
    """Return the 95 % interval of an accuracy (Wilson 1927, JASA 22:209)."""
    low, high = proportion_confint(right, rows, alpha=1 - LEVEL, method="wilson")
    return float(low), float(high)


class Spread(NamedTuple):
    """Several values of one figure, for example one accuracy for each seed."""

    mean: float
    sd: float  # standard deviation (n - 1); 0 for one value
    low: float  # lower end of the mean's 95 % interval; not finite for one value
    high: float  # its upper end


def spread(values: list[float]) -> Spread:
    """Return mean, standard deviation and the mean's Student t interval (Student 1908)."""
    mean = float(np.mean(values))
    if len(values) == 1:
        return Spread(mean, 0.0, -math.inf, math.inf)
    sd = float(np.std(values, ddof=1))
    half = float(t.ppf(0.5 + LEVEL / 2, len(values) - 1)) * sd / math.sqrt(len(values))
    return Spread(mean, sd, mean - half, mean + half)


def difference_of_means(
    first: Sequence[float], second: Sequence[float]
) -> tuple[float, float, float]:
    """Return mean(first) - mean(second), and the ends of its 95 % interval.

    Welch's t interval (Welch 1947, Biometrika 34:28), which lets the two spread differently.

    Args:
        first: one value for each run, at least two.
        second: likewise; not the same runs.
    """
    difference = float(np.mean(first) - np.mean(second))
    if np.ptp(first) == np.ptp(second) == 0:
        return difference, difference, difference
    ends = ttest_ind(first, second, equal_var=False).confidence_interval(LEVEL)
    return difference, float(ends.low), float(ends.high)
