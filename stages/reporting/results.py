"""The shape of a comparison: worked out once, shown as figures, page and card."""

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from stages.core.params import Params
from stages.reporting.significance import Gain, wilson

Array = np.ndarray[Any, np.dtype[np.float64]]


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


MODELS = ("base", "adapter")  # the keys of every per-model mapping below


@dataclass(frozen=True)
class Rung:
    """One method on the ladder.

    Attributes:
        key: a short name for files, such as `tfidf`.
        name: what people call it.
        accuracy: share of the test rows that it has right.
        low: lower end of the accuracy's 95 % interval.
        high: its upper end.
        interval_over: what the interval is over: the test "rows", fresh "heads", or "seeds".
        step: accuracy minus that of the rung before (0 for the first).
        share: the step as a share of the way from the first rung to the last.
        note: how it was made, in a few words.
    """

    key: str
    name: str
    accuracy: float
    low: float
    high: float
    interval_over: str
    step: float
    share: float
    note: str


@dataclass(frozen=True)
class Group:
    """Test rows that have something in common, such as a negation.

    Attributes:
        kind: what the rows are grouped by, for example "negation".
        name: which of its groups this is, for example "with a negation".
        rows: how many test rows.
        fixed: how many of them the adapter fixed.
        broken: how many of them it broke.
        base: accuracy of the base on them.
        adapter: accuracy of the adapter on them.
        low: lower end of the 95 % interval of adapter - base.
        high: its upper end.
    """

    kind: str
    name: str
    rows: int
    fixed: int
    broken: int
    base: float
    adapter: float
    low: float
    high: float


@dataclass(frozen=True)
class Flips:
    """Where the adapter changed the answer.

    Attributes:
        rows: one line for each flipped row: id, change (fixed or broken), text, label,
            base_predicted, base_confidence, adapter_predicted, adapter_confidence, words,
            negation, contrast, and rating (the raters' mean) where the data has it.
            Confidence is the probability of the predicted class. Surest of the adapter first.
        groups: the flips counted by confidence, length, negation and contrast.
        suspects: the adapter's most confident mistakes, surest first, same columns: candidates
            for wrong labels.
    """

    rows: pd.DataFrame
    groups: list[Group]
    suspects: pd.DataFrame


@dataclass(frozen=True)
class Curves:
    """Numbers behind the plots; every mapping has the keys of MODELS.

    Attributes:
        roc: (false positive rate, true positive rate), each of shape (points,). For more than
            two classes the mean of the one-vs-rest curves.
        reliability: one line for each bin of confidence that has rows: confidence (mean),
            accuracy, rows.
        confusion: counts of shape (classes, classes): [true, predicted].
        gains: the gain in each bootstrap resample, shape (resamples,).
        training: step, epoch, loss, learning_rate of the training; empty without one.
        validation: step, epoch, loss, accuracy of each evaluation step; empty without one.
    """

    roc: dict[str, tuple[Array, Array]]
    reliability: dict[str, pd.DataFrame]
    confusion: dict[str, np.ndarray[Any, np.dtype[np.int64]]]
    gains: Array
    training: pd.DataFrame
    validation: pd.DataFrame


@dataclass(frozen=True)
class Results:
    """Everything that stage `compare` works out.

    Attributes:
        labels: class names, in the order of the probabilities.
        gain: of the adapter over the base (first = base, second = adapter).
        verdict: the gain as one sentence.
        caveats: what the figures of this run cannot show, one sentence each.
        details: scores of each model by name (see `details.scores_of`), keys of MODELS.
        ladder: from the lowest rung to the highest.
        against_full: in words whether the run's method and full fine-tuning can be told apart, or
            None, see `ladder.against_full`.
        flips: where the adapter changed the answer.
        curves: the numbers that the plots show.
        data: metrics/data.json.
        seeds: the record of several seeds with exactly these settings, as `bert-lora seeds` wrote
            it, or None.
        search: rows and findings of the last search if it says something of this run, as
            `search.search_of_run` returns them, or None.
        exports: how each recorded export of this adapter compares with it, by format and precision.
        hashes: sha256 of what the results depend on: data, base, adapter.
        params: the settings.
    """

    labels: list[str]
    gain: Gain
    verdict: str
    caveats: list[str]
    details: dict[str, dict[str, Any]]
    ladder: list[Rung]
    against_full: str | None
    flips: Flips
    curves: Curves
    data: dict[str, Any]
    seeds: dict[str, Any] | None
    search: tuple[list[dict[str, Any]], dict[str, Any]] | None
    exports: dict[str, dict[str, Any]]
    hashes: dict[str, str]
    params: Params
