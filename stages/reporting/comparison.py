"""The comparison in figures, as metrics/comparison.json holds it."""

from __future__ import annotations

from stages.reporting.significance import Gain, wilson


def comparison_figures(gain: Gain) -> dict[str, float | int]:
    """Return the comparison as metrics/comparison.json holds it; accuracies are shares."""
    rows = gain.rows
    intervals = {
        "base": wilson(round(gain.first * rows), rows),
        "adapter": wilson(round(gain.second * rows), rows),
    }
    shares = {
        "accuracy_base": gain.first,
        "accuracy_adapter": gain.second,
        "accuracy_gain": gain.gain,
        "accuracy_gain_low": gain.low,
        "accuracy_gain_high": gain.high,
        "accuracy_gain_smallest": gain.smallest,
        **{f"accuracy_{name}_low": ends[0] for name, ends in intervals.items()},
        **{f"accuracy_{name}_high": ends[1] for name, ends in intervals.items()},
    }
    return {key: round(value, 6) + 0.0 for key, value in shares.items()} | {
        "rows": rows,
        "fixed": gain.fixed,
        "broken": gain.broken,
        "mcnemar_p": float(f"{gain.p:.3g}"),  # however small, it is not zero
    }
