"""The shape of a comparison: worked out once, shown as figures, page and card."""

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from stages.core.params import Params
from stages.reporting.significance import ALPHA, Gain

Array = np.ndarray[Any, np.dtype[np.float64]]


def verdict(gain: Gain, names: tuple[str, str]) -> str:
    """Return the comparison as one sentence that can be quoted."""
    sentence = (
        f"{names[0]} {percent(gain.first)}, {names[1]} {percent(gain.second)}: "
        f"gain {step(gain.first, gain.second)} points, "
        f"95 % interval {between(gain.low, gain.high)}, "
        f"{shown_p(gain.p)} on {gain.rows:,} rows ({gain.fixed:,} fixed, {gain.broken:,} broken)"
    )
    return sentence if gain.distinguishable else f"{sentence}: not distinguishable from zero"


def headline(gain: Gain, over_tfidf: Gain, also: list[str]) -> str:
    """Return the verdict of a run: over the base, over the best method without a foundation model.

    Args:
        gain: of the adapter over the base.
        over_tfidf: of the adapter over TF-IDF, on the same rows.
        also: what else belongs into the sentence.
    """
    second = (
        f"over TF-IDF ({percent(over_tfidf.first)}) "
        f"{step(over_tfidf.first, over_tfidf.second)} points, "
        f"95 % interval {between(over_tfidf.low, over_tfidf.high)}, {shown_p(over_tfidf.p)}"
    )
    if not over_tfidf.distinguishable:
        second += ": not distinguishable from zero"
    return "; ".join([verdict(gain, MODELS), second, *also])


def percent(share: float | None) -> str:
    """Return a share as a percentage with one decimal."""
    return "-" if share is None else f"{100 * share:.1f} %"


def points(share: float) -> str:
    """Return a difference of two shares in points, with its sign and one decimal; never "-0.0"."""
    return f"{round(100 * share, 1) + 0.0:+.1f}"


def step(first: float, second: float) -> str:
    """Return the points from one share to another, as the difference of what `percent` shows."""
    return f"{round(round(100 * second, 1) - round(100 * first, 1), 1) + 0.0:+.1f}"


def between(low: float, high: float) -> str:
    """Return an interval of such differences: "-0.4 to 1.6".

    An end that is not 0 is never shown as 0.0: it decides whether there is a gain.
    """
    digits = 1
    while digits < 4 and any(end and not round(100 * end, digits) for end in (low, high)):
        digits += 1
    ends = (f"{round(100 * end, digits) + 0.0:.{digits}f}" for end in (low, high))
    return " to ".join(ends)


def shown_p(p: float) -> str:
    """Return a p-value for people: three decimals, or the power of ten that it lies below.

    It has more decimals where three would put it on the other side of 0.05.
    """
    if p >= 0.001:
        shown = f"{p:.3f}"
        return f"p = {shown if (float(shown) < ALPHA) == (p < ALPHA) else f'{p:.5f}'}"
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
        step: accuracy minus that of the rung below (0 for the lowest).
        share: the step as a share of the way from the lowest rung to the highest, 0 to 1.
        note: how it was made, in a few words.
        cost: what it costs, where that is known.
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
    cost: str = ""


@dataclass(frozen=True)
class Group:
    """Test rows that have something in common, such as a negation.

    Attributes:
        kind: what the rows are grouped by, for example "negation".
        name: which of its groups this is, for example "with a negation".
        gain: of the adapter over the base on them, corrected for how many groups are looked at.
    """

    kind: str
    name: str
    gain: Gain


@dataclass(frozen=True)
class Flips:
    """Where the adapter changed the answer.

    Attributes:
        rows: one line for each flipped row: id, change (fixed or broken), text, label,
            base_predicted, base_confidence, adapter_predicted, adapter_confidence, words,
            negation, contrast, and rating (the raters' mean) where the data has it.
            Confidence is the probability of the predicted class. Surest of the adapter first.
        groups: the flips counted by confidence, class, length, negation and contrast.
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
            accuracy, rows. Also under "raw": the adapter's before its temperature.
        answered: accuracy on the surest rows alone: answered (share of the rows), threshold (the
            least confidence among them), accuracy.
        confusion: counts of shape (classes, classes): [true, predicted].
        training: step, epoch, loss, learning_rate of the training; empty without one.
        validation: step, epoch, loss, accuracy of each evaluation step; empty without one.
    """

    roc: dict[str, tuple[Array, Array]]
    reliability: dict[str, pd.DataFrame]
    answered: dict[str, pd.DataFrame]
    confusion: dict[str, np.ndarray[Any, np.dtype[np.int64]]]
    training: pd.DataFrame
    validation: pd.DataFrame


@dataclass(frozen=True)
class Results:
    """Everything that stage `compare` works out.

    Attributes:
        labels: class names, in the order of the probabilities.
        gain: of the adapter over the base (first = base, second = adapter).
        over_tfidf: of the adapter over TF-IDF.
        verdict: both gains as one sentence.
        details: scores of each model by name (see `details.scores_of`), keys of MODELS.
        ladder: from the least accurate method to the most accurate.
        against_full: in words whether the run's method and full fine-tuning can be told apart, or
            None, see `ladder.against_full`.
        flips: where the adapter changed the answer.
        curves: the numbers that the plots show.
        confused: the commonest mistakes: true, predicted, base and adapter (their rows), share
            (of the rows of the true class); most of the adapter first.
        data: metrics/data.json.
        tokens: metrics/tokens.json, how texts, base and data.max_length fit.
        warnings: what an earlier stage or a record warns of, one sentence each.
        kept: what the adapter's manifest says was kept, "trained" or "base".
        size: bytes and trained parameters of the adapter, parameters of the base.
        seeds: the record of several seeds with exactly these settings, as `bert-lora seeds` wrote
            it, or None.
        search: rows and findings of the last search if it says something of this run, as
            `search.search_of_run` returns them, or None.
        curve: the trainings of `bert-lora curve` of this run, see `curve.read_curve`; maybe none.
        exports: how each recorded export of this adapter compares with it, by format and precision.
        hashes: sha256 of what the results depend on: data, base, adapter.
        made_of: what the adapter was made of, see `records.identity_of`.
        params: the settings.
    """

    labels: list[str]
    gain: Gain
    over_tfidf: Gain
    verdict: str
    details: dict[str, dict[str, Any]]
    ladder: list[Rung]
    against_full: str | None
    flips: Flips
    curves: Curves
    confused: pd.DataFrame
    data: dict[str, Any]
    tokens: dict[str, Any]
    warnings: list[str]
    kept: str
    size: dict[str, int]
    seeds: dict[str, Any] | None
    search: tuple[list[dict[str, Any]], dict[str, Any]] | None
    curve: list[dict[str, Any]]
    exports: dict[str, dict[str, Any]]
    hashes: dict[str, str]
    made_of: dict[str, str]
    params: Params
