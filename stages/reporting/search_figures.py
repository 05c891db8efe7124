"""The report's figures of a search: Optuna's plots of its trials, in our style."""

import warnings
from typing import Any

import matplotlib.pyplot as plt
import optuna
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, NullFormatter
from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.exceptions import ExperimentalWarning
from optuna.importance import FanovaImportanceEvaluator
from optuna.study import Study
from optuna.visualization import matplotlib as plots

from stages.reporting.figure_style import COLOURS
from stages.reporting.search import Row, shown

FEW = 4  # trials below which there is nothing to say of importance


def draw_search(rows: list[Row], found: dict[str, Any]) -> dict[str, Figure]:
    """Return Optuna's plots by name: history, importance and parallel coordinates.

    The latter two need several trials that differ.
    """
    study = study_of(rows, found["space"])
    varied = [
        path for path in found["space"] if len({trial.params[path] for trial in study.trials}) > 1
    ]
    plt.switch_backend("agg")
    # Optuna chooses a style of its own for all that is drawn afterwards.
    with plt.rc_context(), warnings.catch_warnings():
        warnings.simplefilter("ignore", ExperimentalWarning)
        axes = {}
        if study.trials:
            axes["search_history"] = plots.plot_optimization_history(study)
        if len(study.trials) >= FEW and len(varied) > 1:
            axes["search_importance"] = plots.plot_param_importances(
                study, evaluator=FanovaImportanceEvaluator(seed=0), params=varied
            )
            axes["search_parallel"] = plots.plot_parallel_coordinate(study, params=varied)
    figures: dict[str, Any] = {name: each.figure for name, each in axes.items()}
    for name, figure in figures.items():
        _restyle(name, figure)
        plt.close(figure)
    return figures


def study_of(rows: list[Row], space: dict[str, Any]) -> Study:
    """Return the complete trials of the search as a study in memory, choices in words."""
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    study = optuna.create_study()
    for row in rows:
        if (row["phase"], row["state"]) != ("search", "complete"):
            continue
        values: dict[str, Any] = {}
        distributions: dict[str, optuna.distributions.BaseDistribution] = {}
        for path, entry in space.items():
            if "choices" in entry:
                values[path] = row[path]
                choices = [shown(choice) for choice in entry["choices"]]
                distributions[path] = CategoricalDistribution(choices)
            elif isinstance(entry["low"], int) and isinstance(entry["high"], int):
                values[path] = int(row[path])
                distributions[path] = IntDistribution(**entry)
            else:
                # A value has four digits, and may so lie just outside.
                values[path] = min(max(float(row[path]), entry["low"]), entry["high"])
                distributions[path] = FloatDistribution(**entry)
        loss = float(row["validation_loss"])
        study.add_trial(
            optuna.trial.create_trial(value=loss, params=values, distributions=distributions)
        )
    return study


def _restyle(name: str, figure: Any) -> None:
    """Give a figure of Optuna's the style of the others."""
    wide = name == "search_parallel"
    figure.set_size_inches(9.5 if wide else 7, 3.6)
    figure.set_facecolor(COLOURS["paper"])
    if wide:  # its axes are laid over each other, so nothing can arrange them by itself
        figure.subplots_adjust(left=0.07, right=0.97, bottom=0.3, top=0.97)
    else:
        figure.set_layout_engine("constrained")
    for axes in figure.axes:
        axes.set_facecolor("none")
        axes.set_title("")
        axes.set_title("", loc="left")
        axes.tick_params(colors=COLOURS["ink"])
        if axes.get_yscale() == "log":
            axes.yaxis.set_major_formatter("{x:g}")
            axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
            axes.yaxis.set_minor_formatter(NullFormatter())
        for text in (axes.xaxis.label, axes.yaxis.label, *_texts(axes)):
            text.set_color(COLOURS["ink"])
            text.set_text(text.get_text().replace("Objective Value", "validation log loss"))
        for spine in axes.spines.values():
            spine.set_color(COLOURS["muted"])
        if wide and axes.get_label() == "<colorbar>":
            axes.set_position((0.9, 0.3, 0.012, 0.67))
        if not wide:
            axes.grid(visible=True, color=COLOURS["grid"])


def _texts(axes: Any) -> list[Any]:
    """Return the texts of the legend, and the names under the axes of parallel coordinates."""
    legend = axes.get_legend()
    texts = list(legend.get_texts()) if legend else []
    names = [text for text in axes.get_xticklabels() if text.get_text()]
    if any(text.get_text() == "Objective Value" for text in names):
        shown = [text.get_text().replace("Objective Value", "log loss") for text in names]
        axes.set_xticks(axes.get_xticks(), shown, rotation=20, ha="right")
    return texts
