"""The shape of a comparison: worked out once, shown as figures, page and card."""

import math
from dataclasses import dataclass
from typing import Any

import pandas as pd

from stages.core.params import Params
from stages.reporting.significance import ALPHA, Gain

MODELS = ("base", "adapter")  # the keys of every per-model mapping below
SUSPECTS = 50


def verdict(gain: Gain, names: tuple[str, str]) -> str:
    """Return the comparison as one sentence that can be quoted."""
    sentence = (
        f"{names[0]} {percent(gain.first)}, {names[1]} {percent(gain.second)}: "
        f"gain {_told(gain)} on {gain.rows:,} rows ({gain.fixed:,} fixed, {gain.broken:,} broken)"
    )
    return sentence + _may_be_zero(gain)


def headline(gain: Gain, over_tfidf: Gain, also: list[str]) -> str:
    """Return the verdict of a run: over the base, over the best method without a foundation model.

    Args:
        gain: of the adapter over the base.
        over_tfidf: of the adapter over TF-IDF, on the same rows.
        also: what else belongs into the sentence.
    """
    second = f"over TF-IDF ({percent(over_tfidf.first)}) {_told(over_tfidf)}"
    return "; ".join([verdict(gain, MODELS), second + _may_be_zero(over_tfidf), *also])


def _told(gain: Gain) -> str:
    return (
        f"{step(gain.first, gain.second)} points, "
        f"95 % interval {between(gain.low, gain.high)}, {shown_p(gain.p)}"
    )


def _may_be_zero(gain: Gain) -> str:
    return "" if gain.distinguishable else ": not distinguishable from zero"


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


@dataclass(frozen=True)
class Results:
    """Everything that stage `compare` works out; what is by model has the keys of MODELS."""

    labels: list[str]  # class names, in the order of the probabilities
    predictions: dict[str, pd.DataFrame]  # of each model: id, label, predicted, p_<class>
    gain: Gain  # of the adapter over the base (first = base, second = adapter)
    over_tfidf: Gain  # of the adapter over TF-IDF
    verdict: str  # both gains as one sentence
    details: dict[str, dict[str, Any]]  # scores of each model by name, see `details.scores_of`
    ladder: pd.DataFrame  # one method a line, see `details.build_ladder`
    against_full: str | None  # see `details.against_full`
    rows: pd.DataFrame  # both answers to each test row, see `details.describe_rows`
    groups: list[tuple[str, str, Gain]]  # rows alike: kind, name, gain; see `details.count_groups`
    curves: dict[str, pd.DataFrame]  # numbers of the plots by name, see `details.trace_curves`
    confused: pd.DataFrame  # the commonest mistakes, see `details.confused_pairs`
    training: pd.DataFrame  # step, epoch, loss, learning_rate; empty without a training
    validation: pd.DataFrame  # step, epoch, loss, accuracy of each evaluation; likewise
    data: dict[str, Any]  # metrics/data.json
    warnings: list[str]  # of an earlier stage or a record, one sentence each
    kept: str  # what the adapter's manifest says was kept, "trained" or "base"
    size: dict[str, int]  # bytes and trained parameters of the adapter, parameters of the base
    seeds: dict[str, Any] | None  # the record of several seeds with exactly these settings
    # Trials and findings of the last search if it says something of this run.
    search: tuple[pd.DataFrame, dict[str, Any]] | None
    curve: pd.DataFrame  # the trainings of `bert-lora curve` of this run; maybe none
    contenders: pd.DataFrame  # the comparison of methods of this project; maybe none
    exports: dict[str, dict[str, Any]]  # checks of this adapter's exports, by format and precision
    made_of: dict[str, str]  # what the adapter was made of, see `records.identity_of`
    params: Params  # the settings

    @property
    def flips(self) -> pd.DataFrame:
        """The rows that the adapter fixed or broke."""
        return self.rows[self.rows["change"] != ""]

    @property
    def suspects(self) -> pd.DataFrame:
        """The adapter's surest mistakes, at most 50: candidates for wrong labels."""
        return self.rows[self.rows["label"] != self.rows["adapter_predicted"]][:SUSPECTS]
