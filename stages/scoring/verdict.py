"""A comparison as one sentence that can be quoted."""

from __future__ import annotations

import math

from stages.scoring.significance import Gain


def verdict(gain: Gain, names: tuple[str, str]) -> str:
    """Return the comparison as one sentence that can be quoted."""
    points = [100 * value for value in (gain.gain, gain.low, gain.high)]
    sentence = (
        f"{names[0]} {100 * gain.first:.2f} %, {names[1]} {100 * gain.second:.2f} %: "
        f"gain {points[0]:+.1f} points, 95 % interval {points[1]:.1f} to {points[2]:.1f}, "
        f"{shown_p(gain.p)} on {gain.rows:,} rows ({gain.fixed:,} fixed, {gain.broken:,} broken)"
    )
    return sentence if gain.distinguishable else f"{sentence}: not distinguishable from zero"


def shown_p(p: float) -> str:
    """Return a p-value for people: three decimals, or the power of ten that it lies below."""
    if p >= 0.001:
        return f"p = {p:.3f}"
    return f"p < 1e{max(-15, math.ceil(math.log10(p))) if p else -15}"
