"""The record of `bert-lora curve`: accuracy by the number of training rows, in words and drawn."""

import csv
import hashlib
import json
from statistics import mean
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from stages.core import paths
from stages.core.artefacts import back
from stages.core.errors import DataError
from stages.core.params import Params
from stages.reporting.figure_style import COLOURS, LINES, MARKERS, WIDTH, new_figure, style
from stages.reporting.records import settings_of
from stages.reporting.results import between, points
from stages.reporting.significance import spread

COLUMNS = ("curve", "rows", "seed", "tfidf", "base", "adapter", "seconds")
METHODS = {"tfidf": "TF-IDF", "base": "base", "adapter": "adapter"}


def curve_name(params: Params, identity: dict[str, str], precision: str) -> str:
    """Return 16 hex digits that name settings, rows, base, code and precision of a curve."""
    content = json.dumps([settings_of(params), identity, precision], sort_keys=True)
    return hashlib.sha256(content.encode()).hexdigest()[:16]


def read_curve(name: str) -> list[dict[str, Any]]:
    """Return the trainings of a curve, none where there is no record of it.

    Raises:
        DataError: if the record is damaged.
    """
    if not paths.CURVE.exists():
        return []
    try:
        with paths.CURVE.open(encoding="utf-8", newline="") as file:
            return [
                {
                    **{key: int(line[key]) for key in ("rows", "seed")},
                    **{key: float(line[key]) for key in METHODS},
                }
                for line in csv.DictReader(file)
                if line["curve"] == name
            ]
    except (KeyError, ValueError, TypeError, csv.Error) as error:
        raise DataError(
            f"{paths.CURVE}: not a record of bert-lora curve ({type(error).__name__}: {error})",
            back(paths.CURVE),
        ) from None


def advice(lines: list[dict[str, Any]]) -> str:
    """Return in words from how many rows LoRA is worth it, and what twice the rows may bring.

    Args:
        lines: of `read_curve`, at least one.
    """
    frame = pd.DataFrame(lines)
    gains = frame["adapter"] - frame[["tfidf", "base"]].max(axis=1)
    ahead = {
        count: spread(list(gains[frame["rows"] == count])) for count in sorted(set(frame["rows"]))
    }
    sure = [count for count, gain in ahead.items() if gain.low > 0]
    seeds = frame.groupby("rows").size().min()
    if seeds == 1:
        said = "One seed for each number of rows: an interval needs bert-lora curve --seeds 3."
    elif not sure:
        said = "With none of these numbers of rows is LoRA ahead of both other methods for sure."
    else:
        gain = ahead[sure[0]]
        said = (
            f"From {sure[0]:,} training rows on LoRA is ahead of TF-IDF and base: by "
            f"{points(gain.mean)} points there, {between(gain.low, gain.high)} over the seeds."
        )
    if len(ahead) > 1:
        half, whole = list(ahead)[-2:]
        means = [mean(frame.loc[frame["rows"] == count, "adapter"]) for count in (half, whole)]
        said += (
            f" From {half:,} to {whole:,} rows its accuracy changes by "
            f"{points(means[1] - means[0])} points; twice the rows rarely bring more than that "
            "again. Unknown is whether new rows would be like these."
        )
    return said


def draw_curve(lines: list[dict[str, Any]]) -> Figure:
    """Draw the mean accuracy of each method by training rows; a bar spans the seeds."""
    frame = pd.DataFrame(lines)
    with style():
        figure, axes = new_figure(WIDTH, 3.2)
        for method, title in METHODS.items():
            of = frame.groupby("rows")[method].agg(["mean", "min", "max"]) * 100
            colour = COLOURS["muted" if method == "tfidf" else method]
            axes.errorbar(
                of.index,
                of["mean"],
                np.abs(np.stack([of["mean"] - of["min"], of["max"] - of["mean"]])),
                color=colour,
                linestyle=LINES.get(method, ":"),
                marker=MARKERS.get(method, "^"),
                capsize=2,
                label=title,
            )
        axes.set_xscale("log", base=2)
        counts = sorted(set(frame["rows"]))
        axes.set_xticks(counts, [f"{count:,}" for count in counts])
        axes.set_xlabel("training rows")
        axes.set_ylabel("accuracy on the test rows (%)")
        axes.legend()
    return figure
