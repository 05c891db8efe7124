"""A comparison as one sentence that can be quoted."""

from __future__ import annotations

import math

from stages.reporting.significance import Gain


def verdict(gain: Gain, names: tuple[str, str]) -> str:
    """Return the comparison as one sentence that can be quoted."""
    sentence = (
        f"{names[0]} {100 * gain.first:.2f} %, {names[1]} {100 * gain.second:.2f} %: "
        f"gain {points(gain.gain)} points, "
        f"95 % interval {between(gain.low, gain.high)}, "
        f"{shown_p(gain.p)} on {gain.rows:,} rows ({gain.fixed:,} fixed, {gain.broken:,} broken)"
    )
    return sentence if gain.distinguishable else f"{sentence}: not distinguishable from zero"


def points(share: float) -> str:
    """Return a difference of two shares in points, with its sign and one decimal; never "-0.0"."""
    return f"{round(100 * share, 1) + 0.0:+.1f}"


def between(low: float, high: float) -> str:
    """Return an interval of such differences: "-0.4 to 1.6"."""
    return f"{points(low).removeprefix('+')} to {points(high).removeprefix('+')}"


def shown_p(p: float) -> str:
    """Return a p-value for people: three decimals, or the power of ten that it lies below."""
    if p >= 0.001:
        return f"p = {p:.3f}"
    return f"p < 1e{max(-15, math.ceil(math.log10(p))) if p else -15}"
