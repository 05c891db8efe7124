"""Pair base and adapter row by row: the gain, its interval and its significance."""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING

from stages.shared import artefacts, paths
from stages.shared.errors import DataError, ModelError, printable
from stages.shared.params import Params
from stages.shared.run import run_stage

if TYPE_CHECKING:  # heavy libraries are imported once the params are known to be right
    import pandas as pd

RESAMPLES = 10_000
STRINGS = ["id", "label", "predicted"]


def compare(params: Params) -> None:
    """Write the comparison of the two prediction files to metrics/comparison.json."""
    base = read_predictions(paths.BASE_PREDICTIONS)
    adapter = read_predictions(paths.ADAPTER_PREDICTIONS)

    pairs = pair(base, adapter)
    comparison = compare_pairs(pairs["right_base"], pairs["right_adapter"], params.seed)

    artefacts.write_json(paths.COMPARISON, comparison, decimals=None)
    print(verdict(comparison))


def read_predictions(path: Path) -> pd.DataFrame:
    """Return the predictions of one model: id, label, predicted, one probability per class.

    Raises:
        HostError: if the file is missing.
        DataError: if a column is missing, an id repeats, or a probability is not finite.
    """
    import numpy as np
    import pandas as pd

    fix = f"make it again: dvc repro -f {paths.MADE_BY[path]}"
    try:
        strings = dict.fromkeys(STRINGS, str)  # a column of 01 is not one of numbers
        frame = pd.read_csv(artefacts.require(path), keep_default_na=False, dtype=strings)
        probabilities = frame.filter(regex="^p_").to_numpy(dtype=float)
        repeated = frame[STRINGS]["id"].duplicated()
    except (ValueError, KeyError) as error:
        raise DataError(f"{path}: cannot be read: {printable(error)}", fix) from error
    if repeated.any():
        raise DataError(f"{path}: line {repeated.argmax() + 2}: its id stands twice", fix)
    if frame.empty or probabilities.shape[1] < 2:
        raise DataError(f"{path}: holds no predictions", fix)
    finite = np.isfinite(probabilities).all(axis=1)
    if not finite.all():
        raise DataError(f"{path}: line {finite.argmin() + 2}: a probability is not finite", fix)
    return frame


def pair(base: pd.DataFrame, adapter: pd.DataFrame) -> pd.DataFrame:
    """Return one row for each test row, with right_base and right_adapter (booleans).

    Raises:
        DataError: if the two do not hold the same rows with the same labels.
        ModelError: if their label lists differ.
    """
    again = "score both again: dvc repro -f evaluate_base evaluate_adapter"
    if list(base.columns) != list(adapter.columns):
        raise ModelError(
            "metrics/predictions: base and adapter have other classes: "
            f"{printable(list(base.columns[3:]))} and {printable(list(adapter.columns[3:]))}",
            again,
        )
    both = base.merge(adapter, on="id", how="outer", suffixes=("_base", "_adapter"), indicator=True)
    lonely = int((both["_merge"] != "both").sum())
    if lonely:
        raise DataError(
            f"metrics/predictions: {lonely} rows stand in one of base.csv and adapter.csv only",
            again,
        )
    if (both["label_base"] != both["label_adapter"]).any():
        raise DataError("metrics/predictions: base.csv and adapter.csv disagree on labels", again)
    return both.assign(
        right_base=both["label_base"] == both["predicted_base"],
        right_adapter=both["label_adapter"] == both["predicted_adapter"],
    )


def compare_pairs(
    right_base: pd.Series[bool], right_adapter: pd.Series[bool], seed: int
) -> dict[str, float | int]:
    """Return accuracies, gain, its 95 % interval, flipped rows and the exact McNemar p-value.

    The interval is the percentile interval of the paired bootstrap (Efron & Tibshirani 1993,
    ch. 13). A resample of the paired rows enters the gain only through how many of its rows are
    fixed and how many broken, and these counts are multinomial; so they are drawn directly.
    McNemar 1947, exact form: under no difference, fixed is binomial(fixed + broken, 1/2).
    """
    import numpy as np
    from scipy.stats import binomtest

    rows = len(right_base)
    fixed = int((~right_base & right_adapter).sum())
    broken = int((right_base & ~right_adapter).sum())
    shares = [fixed / rows, broken / rows, 1 - (fixed + broken) / rows]
    drawn = np.random.default_rng(seed).multinomial(rows, shares, size=RESAMPLES)
    low, high = np.percentile((drawn[:, 0] - drawn[:, 1]) / rows, [2.5, 97.5])
    p = binomtest(fixed, fixed + broken).pvalue if fixed + broken else 1.0
    comparison: dict[str, float | int] = {
        "accuracy_base": float(right_base.mean()),
        "accuracy_adapter": float(right_adapter.mean()),
        "accuracy_gain": (fixed - broken) / rows,
        "accuracy_gain_low": float(low),
        "accuracy_gain_high": float(high),
        "rows": rows,
        "fixed": fixed,
        "broken": broken,
    }
    rounded = {key: round(value, 6) for key, value in comparison.items()}
    return rounded | {"mcnemar_p": float(f"{p:.3g}")}  # however small, it is not zero


def verdict(comparison: dict[str, float | int]) -> str:
    """Return the comparison as one sentence that can be quoted."""
    gain, low, high = (
        100 * comparison[key]
        for key in ("accuracy_gain", "accuracy_gain_low", "accuracy_gain_high")
    )
    p = comparison["mcnemar_p"]
    shown = (
        f"p < 1e{max(-15, math.ceil(math.log10(p))) if p else -15}" if p < 0.001 else f"p = {p:.3f}"
    )
    sentence = (
        f"base {100 * comparison['accuracy_base']:.2f} %, "
        f"adapter {100 * comparison['accuracy_adapter']:.2f} %: "
        f"gain {gain:+.2f} points, 95 % interval {low:.2f} to {high:.2f}, {shown} "
        f"on {comparison['rows']:,} rows "
        f"({comparison['fixed']} fixed, {comparison['broken']} broken)"
    )
    return sentence if low > 0 or high < 0 else f"{sentence}: not distinguishable from zero"


if __name__ == "__main__":
    run_stage(compare)
