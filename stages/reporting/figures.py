"""The figures of the report, drawn from its numbers."""

from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.figure import Figure

from stages.core.errors import printable
from stages.core.methods import FACTS
from stages.reporting.details import gain_edges
from stages.reporting.figure_style import COLOURS, LINES, MARKERS, new_figure, style
from stages.reporting.results import MODELS, Results, Rung, between, points
from stages.reporting.search import draw_search
from stages.reporting.significance import interval

MANY = 8  # classes up to which a confusion matrix shows numbers, and the two are side by side
DEEP = 0.9  # share from which white on the blue of a cell contrasts more than ink


def draw(results: Results) -> dict[str, Figure]:
    """Return the figures by name: ladder, gain, confusion, roc, reliability, training, search_...

    Without training (train.epochs 0) there is no figure of it, nor of a search without one.
    """
    with style():
        figures = {
            "ladder": draw_ladder(results),
            "gain": draw_gain(results),
            "confusion": draw_confusion(results),
            "roc": draw_roc(results),
            "reliability": draw_reliability(results),
        }
        if len(results.curves.validation):
            figures["training"] = draw_training(results)
    if results.search:
        figures |= draw_search(*results.search)
    return figures


def draw_ladder(results: Results) -> Figure:
    """Draw the accuracy of each rung with its interval, the lowest rung at the bottom."""
    rungs = results.ladder
    figure, axes = new_figure(7, 0.55 * len(rungs) + 0.9)
    for place, rung in enumerate(rungs):
        trained = rung.key in FACTS
        kind = "adapter" if trained else "base" if rung.key == "base" else "muted"
        # Pale where no model of the comparison is shown, so that the interval is easy to see.
        depth = 0.45 if kind == "muted" else 0.85
        axes.barh(place, 100 * rung.accuracy, 0.55, color=COLOURS[kind], alpha=depth)
        low, high = 100 * (rung.accuracy - rung.low), 100 * (rung.high - rung.accuracy)
        bar = [[max(low, 0)], [max(high, 0)]]
        axes.errorbar(
            100 * rung.accuracy, place, xerr=bar, color=COLOURS["ink"], capsize=3, linewidth=1
        )
        axes.text(100 * rung.high + 1, place, f"{100 * rung.accuracy:.1f} %", va="center")
    axes.set_yticks(range(len(rungs)), [_rung_name(rung) for rung in rungs])
    axes.set_xlim(0, 108)
    axes.set_xlabel("accuracy on the test rows (%)\n95 % interval: over the rows where not stated")
    axes.grid(axis="y", visible=False)
    return figure


def _rung_name(rung: Rung) -> str:
    """Return the rung's name, and of what its interval is unless it is of the test rows."""
    over = "" if rung.interval_over == "rows" else f"\ninterval over {rung.interval_over}"
    return f"{rung.name}{over}"


def draw_gain(results: Results) -> Figure:
    """Draw the gain's bootstrap distribution, its interval and zero."""
    figure, axes = new_figure(7, 3)
    gains = 100 * results.curves.gains
    edges = gain_edges(results.curves)
    axes.hist(gains, bins=list(edges), color=COLOURS["adapter"], alpha=0.5)
    low, high = interval(results.curves.gains)
    gain = results.gain.gain
    axes.axvline(100 * gain, color=COLOURS["adapter"], label=f"gain {points(gain)} points")
    axes.axvspan(100 * low, 100 * high, color=COLOURS["adapter"], alpha=0.15, linewidth=0,
                 label=f"95 % interval {between(low, high)}")  # fmt: skip
    axes.axvline(0, color=COLOURS["ink"], linestyle=":", label="no gain")
    axes.set_xlabel("gain in accuracy (points)")
    axes.set_ylabel(f"resamples (of {len(gains):,})")
    axes.legend(loc="lower center", bbox_to_anchor=(0.5, 1), ncols=3)
    return figure


def draw_confusion(results: Results) -> Figure:
    """Draw both confusion matrices, each row of true labels as shares that sum to 100 %."""
    count = len(results.labels)
    few = count <= MANY
    side = min(max(0.7 * count, 2.6), 6.5)
    size = (2 * side + 1.8, side + 1.0) if few else (side + 1.8, 2 * side + 2)
    figure, both = new_figure(*size, columns=2 if few else 1, rows=1 if few else 2)
    names = _short(results.labels)
    for axes, model in zip(both, MODELS, strict=True):
        table = results.curves.confusion[model]
        shares = table / table.sum(axis=1, keepdims=True).clip(min=1)
        shade = LinearSegmentedColormap.from_list(model, [COLOURS["paper"], COLOURS[model]])
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
        axes.set_ylabel("true label" if axes is both[0] or not few else "")
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
        size = 9 if len(text) < 14 else 8
        axes.text(column, row, text, ha="center", va="center", color=colour, fontsize=size)


def draw_roc(results: Results) -> Figure:
    """Draw the ROC curves with their areas."""
    figure, axes = new_figure(4.6, 4.2)
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
    """Draw accuracy over confidence; a marker's area grows with the rows of its bin."""
    figure, axes = new_figure(4.6, 4.2)
    start = 100 / len(results.labels)
    axes.plot([start, 100], [start, 100], color=COLOURS["muted"], linestyle=":", label="perfect")
    for model in MODELS:
        bins = results.curves.reliability[model]
        x, y = 100 * bins["confidence"], 100 * bins["accuracy"]
        error = results.details[model]["calibration_error"]
        axes.plot(x, y, LINES[model], color=COLOURS[model], marker=MARKERS[model], markersize=3,
                  label=f"{model}, error {100 * error:.1f} points")  # fmt: skip
        size = 600 * bins["rows"] / bins["rows"].sum()
        axes.scatter(x, y, size, color=COLOURS[model], marker=MARKERS[model], alpha=0.35)
    axes.set_xlabel("confidence (%)")
    axes.set_ylabel("accuracy (%)")
    # Where the fewest points lie; a curve may still pass below it.
    axes.legend(loc="best", frameon=True, facecolor=COLOURS["paper"], edgecolor="none")
    return figure


def draw_training(results: Results) -> Figure:
    """Draw loss, validation accuracy and learning rate over the optimiser's steps."""
    figure, (loss, accuracy, rate) = new_figure(9.5, 3, 3, sharex=True)
    train, held_out = results.curves.training, results.curves.validation
    loss.plot(train["step"], train["loss"], color=COLOURS["muted"], label="train")
    loss.plot(held_out["step"], held_out["loss"], color=COLOURS["adapter"], marker="o",
              markersize=4, label="validation")  # fmt: skip
    loss.set_title("loss (nats)")
    loss.legend()
    accuracy.plot(held_out["step"], 100 * held_out["accuracy"], color=COLOURS["adapter"],
                  marker="o", markersize=4)  # fmt: skip
    accuracy.set_title("validation accuracy (%)")
    rate.plot(train["step"], 1000 * train["learning_rate"], color=COLOURS["adapter"])
    rate.set_title("learning rate (× 0.001)")
    for axes in (loss, accuracy, rate):
        axes.set_xlabel("optimiser step")
    return figure
