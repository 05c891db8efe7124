"""The figures of the report, in one style: base orange and dashed, adapter blue and solid.

The two differ in brightness and in line style, so they differ in grey print and for colour-blind
readers. matplotlib draws each figure once: as a PNG file, and as an SVG inside the page, which
inverts its brightness on a dark screen.
"""

import base64
import io
import itertools
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
import pandas as pd
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.figure import Figure
from matplotlib.ticker import NullFormatter
from sklearn.metrics import ConfusionMatrixDisplay

from stages.core.errors import printable
from stages.core.methods import FACTS
from stages.reporting.records import METHODS, complete, shown, words
from stages.reporting.results import MODELS, Results, percent
from stages.training import ROWS_TO_CHOOSE

CLASSES = 20  # up to which the confusion matrix is drawn
MANY = 8  # classes up to which it shows numbers
SHADES = {"base": "#e69f00", "adapter": "#56b4e9"}  # of a full cell; ink can be read on both

COLOURS = {"base": "#e69f00", "adapter": "#0072b2", "muted": "#6b7178"}  # Okabe & Ito 2008
WIDTH = 5.6  # inches: on a phone the letters of a figure stay legible
LOOKS: dict[str, Any] = {
    "base": {"linestyle": "--", "marker": "s", "markersize": 4, "color": COLOURS["base"]},
    "adapter": {"linestyle": "-", "marker": "o", "markersize": 4, "color": COLOURS["adapter"]},
    "tfidf": {"linestyle": ":", "marker": "^", "markersize": 4, "color": COLOURS["muted"]},
}
STYLE: dict[Any, Any] = {
    "font.size": 10,
    "axes.titlesize": 10,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": "#d5d9de",
    "legend.frameon": False,
    "text.parse_math": False,  # a label may hold a dollar sign
    "svg.fonttype": "none",
    "svg.hashsalt": "bert-lora-dvc",
}


@contextmanager
def style() -> Iterator[None]:
    """Draw in the style of the project while the block runs."""
    with mpl.rc_context(STYLE), warnings.catch_warnings():
        # A letter that the font lacks is drawn as a box, and that is it.
        warnings.filterwarnings("ignore", message="Glyph", category=UserWarning)
        yield


def new_figure(
    width: float, height: float, columns: int = 1, rows: int = 1, **options: Any
) -> tuple[Figure, Any]:
    """Return a figure of so many inches and its axes."""
    figure = Figure(figsize=(width, height), layout="constrained")
    return figure, figure.subplots(rows, columns, **options)


def svg_of(figure: Figure) -> str:
    """Return the figure as a transparent SVG file, in base64."""
    file = io.BytesIO()
    with style():
        figure.savefig(file, format="svg", transparent=True, metadata={"Date": None})
    return base64.b64encode(file.getvalue()).decode("ascii")


def save_pngs(figures: dict[str, Figure], folder: Path) -> None:
    """Write each figure as a PNG file, 150 dots an inch; the same bytes for the same content."""
    folder.mkdir()
    for name, figure in figures.items():
        save_png(figure, folder / f"{name}.png")


def save_png(figure: Figure, path: Path) -> None:
    """Write a figure as a PNG file, 150 dots an inch."""
    with style():
        figure.savefig(path, dpi=150, metadata={"Software": None})


def draw(results: Results) -> dict[str, Figure]:
    """Return the figures by name: ladder, answered, confusion, reliability, training, ...

    What has no content is left out: a matrix of more classes than can be read, a training of no
    epoch, a search without a record.
    """
    with style():
        figures = {
            "ladder": draw_ladder(results.ladder),
            "answered": draw_answered(results.curves),
            "reliability": draw_reliability(results),
        }
        if len(results.labels) <= CLASSES:
            figures["confusion"] = draw_confusion(results)
        if len(results.validation):
            figures["training"] = draw_training(results)
        if len(results.curve):
            figures["curve"] = draw_curve(results.curve)
        if results.search:
            figures |= draw_search(*results.search)
    return figures


def draw_ladder(ladder: pd.DataFrame) -> Figure:
    """Draw the accuracy of each rung with its interval, the lowest rung at the bottom."""
    figure, axes = new_figure(WIDTH, 0.62 * len(ladder) + 0.9)
    for place, (key, rung) in enumerate(ladder.to_dict("index").items()):
        kind = "adapter" if key in FACTS else "base" if key == "base" else "muted"
        # Pale where no model of the comparison is shown, so that the interval is easy to see.
        depth = 0.45 if kind == "muted" else 0.85
        axes.barh(place, 100 * rung["accuracy"], 0.4, color=COLOURS[kind], alpha=depth)
        axes.plot([100 * rung["low"], 100 * rung["high"]], [place, place], color="black",
                  marker="|", linewidth=1)  # fmt: skip
        axes.text(100 * rung["high"] + 1.5, place, percent(rung["accuracy"]), va="center")
        over = "" if rung["interval_over"] == "rows" else f", interval over {rung['interval_over']}"
        axes.text(0, place + 0.25, rung["rung"] + over, va="bottom", fontsize=9)
    axes.set_yticks([])
    axes.set_ylim(-0.4, len(ladder) - 0.3)
    axes.set_xlim(0, 116)
    axes.set_xticks(range(0, 101, 20))
    axes.set_xlabel("accuracy on the test rows (%), 95 % interval")
    axes.grid(axis="y", visible=False)
    return figure


def draw_answered(curves: dict[str, pd.DataFrame]) -> Figure:
    """Draw accuracy over the share of the rows that are answered, the surest first."""
    figure, axes = new_figure(WIDTH, 3)
    for model in MODELS:
        table = 100 * curves[f"answered_{model}"]
        axes.plot(table["answered"], table["accuracy"], label=model, **LOOKS[model])
    axes.set_xlabel("share of the test rows that are answered (%)")
    axes.set_ylabel("accuracy on them (%)")
    axes.invert_xaxis()
    axes.legend()
    return figure


def draw_confusion(results: Results) -> Figure:
    """Draw both confusion matrices, each row of true labels as shares that sum to 100 %."""
    count = len(results.labels)
    side = min(max(0.6 * count + 0.6, 2.4), WIDTH - 0.8)
    beside = count <= 3  # of more classes the second matrix stands below the first
    size = (WIDTH, side + 0.8) if beside else (WIDTH, 2 * side + 1.6)
    figure, both = new_figure(*size, columns=2 if beside else 1, rows=1 if beside else 2)
    names = [printable(label, 14) for label in results.labels]
    if len(set(names)) < count:  # alike when cut: each has its number
        names = [f"{n}: {printable(label, 10)}" for n, label in enumerate(results.labels, start=1)]
    for axes, model in zip(both, MODELS, strict=True):
        of = results.predictions[model]
        ConfusionMatrixDisplay.from_predictions(
            *(of["label"], of["predicted"]),
            labels=results.labels,
            display_labels=names,
            normalize="true",
            values_format=".1%",
            include_values=count <= MANY,
            colorbar=count > MANY,
            cmap=LinearSegmentedColormap.from_list(model, ["white", SHADES[model]]),
            im_kw={"vmin": 0, "vmax": 1},
            text_kw={"color": "black", "fontsize": 10 if beside else 8},
            xticks_rotation="horizontal" if beside else "vertical",
            ax=axes,
        )
        axes.set(title=model, xlabel="predicted label", ylabel="true label")
        axes.grid(visible=False)
    return figure


def draw_reliability(results: Results) -> Figure:
    """Draw accuracy over confidence, and below it how many rows each bin has."""
    figure, (axes, counts) = new_figure(
        WIDTH, 4.6, rows=2, sharex=True, gridspec_kw={"height_ratios": [3, 1]}
    )
    start = 100 / len(results.labels)
    axes.plot([start, 100], [start, 100], color=COLOURS["muted"], linestyle=":", label="perfect")

    def draw_one(name: str, title: str, error: float, **look: Any) -> None:
        bins = results.curves[f"reliability_{name}"]
        title = f"{title}, error {100 * error:.1f} points"
        axes.plot(100 * bins["confidence"], 100 * bins["accuracy"], label=title, **look)

    for model, side in zip(MODELS, (-0.8, 0.8), strict=True):
        draw_one(model, model, results.details[model]["calibration_error"], **LOOKS[model])
        bins = results.curves[f"reliability_{model}"]
        counts.bar(100 * bins["confidence"] + side, bins["rows"], 1.6, color=COLOURS[model])
    adapter = results.details["adapter"]
    if adapter["temperature"] != 1:
        title, look = "adapter before its temperature", {"linestyle": ":", "marker": "x"}
        draw_one("raw", title, adapter["calibration_error_raw"], **LOOKS["adapter"] | look)
    counts.set_xlabel("confidence (%)")
    counts.set_ylabel("rows of the bin")
    axes.set_ylabel("accuracy (%)")
    axes.legend(loc="lower center", bbox_to_anchor=(0.5, 1), ncols=2, fontsize=8)
    return figure


def draw_training(results: Results) -> Figure:
    """Draw loss and validation accuracy over the optimiser's steps; the kept step is marked."""
    figure, (loss, accuracy) = new_figure(WIDTH, 4.2, rows=2, sharex=True)
    train, held_out = results.training, results.validation
    loss.plot(train["step"], train["loss"], color=COLOURS["muted"], label="train")
    loss.plot(held_out["step"], held_out["loss"], label="validation", **LOOKS["adapter"])
    accuracy.plot(held_out["step"], 100 * held_out["accuracy"], **LOOKS["adapter"])
    if (step := kept_step(results)) is not None:
        for axes in (loss, accuracy):
            axes.axvline(step, color="black", linestyle="--", linewidth=1, label="kept")
    loss.set_ylabel("loss (nats)")
    loss.legend(loc="lower center", bbox_to_anchor=(0.5, 1), ncols=3)
    accuracy.set_ylabel("validation accuracy (%)")
    accuracy.set_xlabel("optimiser step")
    accuracy.xaxis.get_major_locator().set_params(integer=True)
    return figure


def kept_step(results: Results) -> int | None:
    """Return the step whose weights were kept, None for the base.

    It is the best on validation, or the last where too few rows could tell.
    """
    held_out = results.validation
    if results.kept == "base" or not len(held_out):
        return None
    if results.data["rows_validation"] < ROWS_TO_CHOOSE:
        return int(held_out["step"].iloc[-1])
    column = results.params.train.select_by
    losses = held_out[column if column in held_out else "loss"]
    return int(held_out["step"].iloc[int(losses.to_numpy().argmin())])


def draw_curve(trainings: pd.DataFrame) -> Figure:
    """Draw the mean accuracy of each method by training rows; a bar spans the seeds."""
    figure, axes = new_figure(WIDTH, 3.2)
    for method, title in METHODS.items():
        of = trainings.groupby("rows")[method].agg(["mean", "min", "max"]) * 100
        bar = [of["mean"] - of["min"], of["max"] - of["mean"]]
        axes.errorbar(of.index, of["mean"], np.abs(bar), capsize=2, label=title, **LOOKS[method])
    axes.set_xscale("log", base=2)
    counts = sorted(set(trainings["rows"]))
    axes.set_xticks(counts, [f"{count:,}" for count in counts])
    axes.set_xlabel("training rows")
    axes.set_ylabel("accuracy on the test rows (%)")
    axes.legend()
    return figure


FEW = 4  # trials below which there is nothing to draw
CAP = 3  # how many times as far from the best as the median the axis of the losses ends


def draw_search(trials: pd.DataFrame, found: dict[str, Any]) -> dict[str, Figure]:
    """Return the figure search_params: the loss over each param that the trials vary."""
    trials = complete(trials).reset_index(drop=True)
    varied = [path for path in found["space"] if trials[path].nunique() > 1]
    if len(trials) < FEW or not varied:
        return {}
    losses = trials["validation_loss"].astype(float)
    best = int(losses.to_numpy().argmin())
    lines = -(-len(varied) // 2)
    figure, grid = new_figure(WIDTH, 1.9 * lines + 0.3, 2, lines, sharey=True, squeeze=False)
    figure.set_label(f"The best trial has {words({p: trials[p][best] for p in varied})}.")
    for axes, path in itertools.zip_longest(grid.flat, varied):
        if path is None:
            axes.set_axis_off()
            continue
        space, values = found["space"][path], trials[path]
        if choices := space.get("choices"):
            axes.xaxis.update_units([shown(choice) for choice in choices])  # in this order
        else:
            values = values.astype(float)
        axes.scatter(values, losses, 18, color=COLOURS["muted"])
        axes.scatter(values[best], losses[best], 40, color=COLOURS["adapter"], marker="D")
        if space.get("log"):
            axes.set_xscale("log")
            axes.xaxis.set_major_formatter("{x:g}")
            axes.xaxis.set_minor_formatter(NullFormatter())
        axes.set_xlabel(path, fontsize=8)
        axes.tick_params(labelsize=8)
    low, top = losses[best], losses[best] + CAP * (losses.median() - losses[best])
    if low < top < losses.max():
        grid[0, 0].set_ylim(low - (top - low) / 20, top)
    figure.supylabel("validation log loss (nats)", fontsize=9)
    return {"search_params": figure}
