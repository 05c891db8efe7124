"""A comparison as one sentence that can be quoted."""

from __future__ import annotations

import math
from typing import Any

from stages.reporting.significance import Gain, wilson


def verdict(gain: Gain, names: tuple[str, str]) -> str:
    """Return the comparison as one sentence that can be quoted."""
    sentence = (
        f"{names[0]} {100 * gain.first:.2f} %, {names[1]} {100 * gain.second:.2f} %: "
        f"gain {points(gain.gain)} points, "
        f"95 % interval {between(gain.low, gain.high)}, "
        f"{shown_p(gain.p)} on {gain.rows:,} rows ({gain.fixed:,} fixed, {gain.broken:,} broken)"
    )
    return sentence if gain.distinguishable else f"{sentence}: not distinguishable from zero"


FEW_TEST_ROWS = 400  # fewer know an accuracy of 80 % to 4 points at best
FEW_ROWS_A_CLASS = 64
FEW_VALIDATION_ROWS = 100  # as many as choose a checkpoint


def caveats(gain: Gain, data: dict[str, Any], classes: int, kept: str) -> list[str]:
    """Return what the figures of this run cannot show, one sentence each; none for plenty of rows.

    Args:
        gain: of the adapter over the base.
        data: metrics/data.json.
        classes: how many there are.
        kept: what the adapter's manifest says was kept, "trained" or "base".
    """
    found = []
    if kept == "base":
        found.append(
            "No trained weights were better than the base on the validation rows, so the base "
            "itself is kept: the adapter is untrained, and the gain is zero"
        )
    if gain.rows < FEW_TEST_ROWS:
        low, high = wilson(round(gain.second * gain.rows), gain.rows)
        found.append(
            f"{gain.rows} test rows: the adapter's accuracy lies anywhere from {100 * low:.0f} to "
            f"{100 * high:.0f} %, and a gain below {100 * gain.smallest:.0f} points cannot be shown"
        )
    rows = data["rows_train"]
    if rows < FEW_ROWS_A_CLASS * classes:
        found.append(
            f"{rows:,} rows to train on, {rows / classes:.0f} a class: other rows of the same kind "
            "would give another adapter, which no interval over test rows or seeds shows"
        )
    if (rows := data["rows_validation"]) < FEW_VALIDATION_ROWS:
        found.append(
            f"{rows} validation rows: too few to choose a checkpoint, and the penalty and the "
            "temperature that they choose are rough"
        )
    return found


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
