"""The figures of the report, drawn from its numbers."""

from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.figure import Figure

from stages.core.errors import printable
from stages.core.methods import FACTS
from stages.reporting.answer import FEW_VALIDATION_ROWS
from stages.reporting.curve import draw_curve
from stages.reporting.details import CLASSES
from stages.reporting.figure_style import COLOURS, LINES, MARKERS, WIDTH, new_figure, style
from stages.reporting.results import MODELS, Results, Rung, percent
from stages.reporting.search import draw_search

MANY = 8  # classes up to which a confusion matrix shows numbers
SHADES = {"base": COLOURS["base"], "adapter": "#004b7a"}  # of a full cell; a darker blue
DEEP = 0.7  # share from which white on the blue of a cell contrasts more than ink


def draw(results: Results) -> dict[str, Figure]:
    """Return the figures by name: ladder, answered, confusion, roc, reliability, training, ...

    What has no content is left out: a matrix of more classes than can be read, a training of no
    epoch, a search without a record.
    """
    with style():
        figures = {
            "ladder": draw_ladder(results),
            "answered": draw_answered(results),
            "roc": draw_roc(results),
            "reliability": draw_reliability(results),
        }
        if len(results.labels) <= CLASSES:
            figures["confusion"] = draw_confusion(results)
        if len(results.curves.validation):
            figures["training"] = draw_training(results)
        if results.curve:
            figures["curve"] = draw_curve(results.curve)
        if results.search:
            figures |= draw_search(*results.search)
    return figures


def draw_ladder(results: Results) -> Figure:
    """Draw the accuracy of each rung with its interval, the lowest rung at the bottom."""
    rungs = results.ladder
    figure, axes = new_figure(WIDTH, 0.62 * len(rungs) + 0.9)
    for place, rung in enumerate(rungs):
        kind = "adapter" if rung.key in FACTS else "base" if rung.key == "base" else "muted"
        # Pale where no model of the comparison is shown, so that the interval is easy to see.
        depth = 0.45 if kind == "muted" else 0.85
        axes.barh(place, 100 * rung.accuracy, 0.4, color=COLOURS[kind], alpha=depth)
        low, high = 100 * (rung.accuracy - rung.low), 100 * (rung.high - rung.accuracy)
        bar = [[max(low, 0)], [max(high, 0)]]
        axes.errorbar(
            100 * rung.accuracy, place, xerr=bar, color=COLOURS["ink"], capsize=3, linewidth=1
        )
        axes.text(100 * rung.high + 1.5, place, percent(rung.accuracy), va="center")
        axes.text(0, place + 0.25, _rung_name(rung), va="bottom", fontsize=9)
    axes.set_yticks([])
    axes.set_ylim(-0.4, len(rungs) - 0.3)
    axes.set_xlim(0, 116)
    axes.set_xticks(range(0, 101, 20))
    axes.set_xlabel("accuracy on the test rows (%), 95 % interval")
    axes.grid(axis="y", visible=False)
    return figure


def _rung_name(rung: Rung) -> str:
    """Return the rung's name, and of what its interval is unless it is of the test rows."""
    over = "" if rung.interval_over == "rows" else f", interval over {rung.interval_over}"
    return f"{rung.name}{over}"


def draw_answered(results: Results) -> Figure:
    """Draw accuracy over the share of the rows that are answered, the surest first."""
    figure, axes = new_figure(WIDTH, 3)
    for model in MODELS:
        table = results.curves.answered[model]
        axes.plot(100 * table["answered"], 100 * table["accuracy"], LINES[model], label=model,
                  color=COLOURS[model], marker=MARKERS[model], markersize=4)  # fmt: skip
    axes.set_xlabel("share of the test rows that are answered (%)")
    axes.set_ylabel("accuracy on them (%)")
    axes.invert_xaxis()
    axes.legend()
    return figure


def draw_confusion(results: Results) -> Figure:
    """Draw both confusion matrices, each row of true labels as shares that sum to 100 %."""
    count = len(results.labels)
    few = count <= MANY
    side = min(max(0.6 * count + 0.6, 2.4), WIDTH - 0.8)
    beside = count <= 3  # of more classes the second matrix stands below the first
    size = (WIDTH, side + 0.8) if beside else (WIDTH, 2 * side + 1.6)
    figure, both = new_figure(*size, columns=2 if beside else 1, rows=1 if beside else 2)
    names = _short(results.labels)
    for axes, model in zip(both, MODELS, strict=True):
        table = results.curves.confusion[model]
        shares = table / table.sum(axis=1, keepdims=True).clip(min=1)
        shade = LinearSegmentedColormap.from_list(model, [COLOURS["paper"], SHADES[model]])
        cells = axes.imshow(100 * shares, cmap=shade, vmin=0, vmax=100)
        if few:
            _write_cells(axes, table, shares, model)
        else:
            figure.colorbar(cells, ax=axes, label="share of the true label's rows (%)", shrink=0.9)
        turned = {} if count <= 3 else {"rotation": 45, "ha": "right", "rotation_mode": "anchor"}
        axes.set_xticks(range(count), names, **turned)
        axes.set_yticks(range(count), names)
        axes.set_title(model)
        axes.set_xlabel("predicted label")
        axes.set_ylabel("true label" if axes is both[0] or not beside else "")
        axes.grid(visible=False)
    return figure


def _short(labels: list[str]) -> list[str]:
    """Return labels of at most 14 characters; if some are then alike, each has its number."""
    names = [printable(label, 14) for label in labels]
    if len(set(names)) == len(names):
        return names
    return [f"{n}: {printable(label, 10)}" for n, label in enumerate(labels, start=1)]


def _write_cells(axes: Axes, table: Any, shares: Any, model: str) -> None:
    """Write share and count on each cell, in the colour that can be read there.

    Cells keep their colours on a dark page, so these colours are not those of the page.
    """
    for (row, column), share in np.ndenumerate(shares):
        text = f"{100 * share:.1f} %\n{table[row, column]:,}"
        colour = "#ffffff" if model == "adapter" and share > DEEP else "#1b1f25"
        size = 10 if len(table) <= 3 else 8 if len(text) < 14 else 7
        axes.text(column, row, text, ha="center", va="center", color=colour, fontsize=size)


def draw_roc(results: Results) -> Figure:
    """Draw the ROC curves with their areas."""
    figure, axes = new_figure(WIDTH, 4.2)
    axes.plot([0, 100], [0, 100], color=COLOURS["muted"], linestyle=":", label="chance")
    for model in MODELS:
        false, true = results.curves.roc[model]
        area = results.details[model]["roc_auc"]
        known = "" if area is None else f", area {area:.3f}"  # None: the test has one class only
        axes.plot(100 * false, 100 * true, LINES[model], color=COLOURS[model],
                  label=f"{model}{known}")  # fmt: skip
    axes.set_xlabel("false positive rate (%)")
    axes.set_ylabel("true positive rate (%)")
    axes.set_aspect("equal")
    axes.legend(loc="lower right")
    return figure


def draw_reliability(results: Results) -> Figure:
    """Draw accuracy over confidence, and below it how many rows each bin has."""
    figure, (axes, counts) = new_figure(
        WIDTH, 4.6, rows=2, sharex=True, gridspec_kw={"height_ratios": [3, 1]}
    )
    start = 100 / len(results.labels)
    axes.plot([start, 100], [start, 100], color=COLOURS["muted"], linestyle=":", label="perfect")
    curves = [(model, model, LINES[model], MARKERS[model], 1.0) for model in MODELS]
    if results.details["adapter"]["temperature"] != 1:
        curves.append(("raw", "adapter before its temperature", ":", "x", 0.6))
    for name, title, line, marker, depth in curves:
        bins = results.curves.reliability[name]
        colour = COLOURS["base" if name == "base" else "adapter"]
        raw = "calibration_error_raw" if name == "raw" else "calibration_error"
        error = results.details["base" if name == "base" else "adapter"][raw]
        x = 100 * bins["confidence"]
        axes.plot(x, 100 * bins["accuracy"], line, color=colour, marker=marker, markersize=4,
                  alpha=depth, label=f"{title}, error {100 * error:.1f} points")  # fmt: skip
        if name in MODELS:
            side = -0.8 if name == "base" else 0.8
            counts.bar(x + side, bins["rows"], 1.6, color=colour, label=name)
    counts.set_xlabel("confidence (%)")
    counts.set_ylabel("rows of the bin")
    axes.set_ylabel("accuracy (%)")
    axes.legend(loc="lower center", bbox_to_anchor=(0.5, 1), ncols=2, fontsize=8)
    return figure


def draw_training(results: Results) -> Figure:
    """Draw loss and validation accuracy over the optimiser's steps; the kept step is marked."""
    figure, (loss, accuracy) = new_figure(WIDTH, 4.2, rows=2, sharex=True)
    train, held_out = results.curves.training, results.curves.validation
    loss.plot(train["step"], train["loss"], color=COLOURS["muted"], label="train")
    loss.plot(held_out["step"], held_out["loss"], color=COLOURS["adapter"], marker="o",
              markersize=4, label="validation")  # fmt: skip
    accuracy.plot(held_out["step"], 100 * held_out["accuracy"], color=COLOURS["adapter"],
                  marker="o", markersize=4)  # fmt: skip
    if (step := kept_step(results)) is not None:
        for axes in (loss, accuracy):
            axes.axvline(step, color=COLOURS["ink"], linestyle="--", linewidth=1, label="kept")
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
    held_out = results.curves.validation
    if results.kept == "base" or not len(held_out):
        return None
    if results.data["rows_validation"] < FEW_VALIDATION_ROWS:
        return int(held_out["step"].iloc[-1])
    column = results.params.train.select_by
    losses = held_out[column if column in held_out else "loss"]
    return int(held_out["step"].iloc[int(losses.to_numpy().argmin())])
