"""The record of a search: every trial in metrics/search.csv, what it found in metrics/search.json.

This module is the only one that writes and reads the two.
"""

import csv
import json
import warnings
from collections.abc import Mapping
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

from stages.core import paths
from stages.core.artefacts import read_json, replacing, write_json
from stages.core.errors import DataError, printable
from stages.core.params import Params
from stages.reporting.figure_style import COLOURS

# The columns before those of the params, which have the params' dotted paths as names.
COLUMNS = (
    *("trial", "phase", "state", "validation_loss", "validation_accuracy", "best_so_far"),
    *("seed", "epochs", "seconds"),
)
KEYS = ("study", "data", "settings", "space", "trials", "finalists", "best", "verdict")
FIX = f"restore them: git checkout {paths.SEARCH_TABLE} {paths.SEARCH}; or search again"
Row = dict[str, Any]


def settings_of(params: Params) -> dict[str, Any]:
    """Return the settings that a search's results depend on."""
    return params.model_dump(exclude={"compute", "tfidf", "search"})


def write_search(rows: list[Row], found: dict[str, Any]) -> None:
    """Write the record in place of the last search's.

    Args:
        rows: a mapping for each trial, with COLUMNS (phase: search or final; state: complete,
            pruned or failed; losses in nats; epochs until the best evaluation step) and params.
        found: KEYS: the study's name, the sha256 of the data's source, the settings that the
            search calls the defaults (see `settings_of`), the space (ranges or choices by path),
            the number of trials by state, the finalists (changes, the loss they were found by,
            seeds, losses, accuracies), the best (changed params, empty for the defaults, null
            without finals), and it in words; besides device and precision.
    """
    names = [*COLUMNS, *sorted({name for row in rows for name in row} - set(COLUMNS))]
    with (
        replacing(paths.SEARCH_TABLE) as temporary,
        temporary.open("w", encoding="utf-8", newline="") as file,
    ):
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(names)
        for row in rows:
            empty = {name for name in COLUMNS if row.get(name) is None}
            writer.writerow("" if name in empty else shown(row.get(name)) for name in names)
    write_json(paths.SEARCH, found)


def shown(value: Any) -> str:
    """Return a param's value or a figure as the table, YAML and `-S` have it."""
    if isinstance(value, float):
        return f"{value:.6g}"
    return value if isinstance(value, str) else json.dumps(value)


def words(changes: Mapping[str, Any]) -> str:
    """Return changed params as `KEY=VALUE`, one after the other."""
    return ", ".join(f"{path}={shown(value)}" for path, value in changes.items())


def read_search() -> tuple[list[Row], dict[str, Any]] | None:
    """Return rows (every value as text) and findings of the last search, None if there is none.

    Raises:
        DataError: if a file is damaged.
    """
    if not paths.SEARCH.exists() or not paths.SEARCH_TABLE.exists():
        return None
    try:
        found = read_json(paths.SEARCH)
        with paths.SEARCH_TABLE.open(encoding="utf-8", newline="") as file:
            rows = list(csv.DictReader(file))
    except (DataError, UnicodeDecodeError, csv.Error) as error:
        what = error.args[0] if isinstance(error, DataError) else f"{paths.SEARCH_TABLE}: {error}"
        raise DataError(printable(what, 200), FIX) from error
    if not found:
        return None
    if not isinstance(found, dict) or not set(KEYS) <= set(found):
        raise DataError(f"{paths.SEARCH}: lacks one of {', '.join(KEYS)}", FIX)
    if missing := sorted(set(COLUMNS) - set(rows[0] if rows else COLUMNS)):
        raise DataError(f"{paths.SEARCH_TABLE}: lacks the column {missing[0]}", FIX)
    return rows, found


def search_of_run(params: Params, source: str) -> tuple[list[Row], dict[str, Any]] | None:
    """Return rows and findings of the last search, None if it has nothing to say of this run.

    That is a search of other data, another split, base model, pooling or method. What it found is
    there with a sentence more, `relation`: whether the run has the settings that were found best.

    Args:
        params: the run's settings.
        source: sha256 of the source of the run's data.

    Raises:
        DataError: if its record is damaged.
    """
    search = read_search()
    if search is None:
        return None
    rows, found = search
    known, now = _flat(found["settings"]), _flat(settings_of(params))
    fixed = {path for path in known if path.startswith(("data.", "model."))} | {"train.method"}
    # A key that a later version adds or drops is no difference.
    if found["data"] != source or any(known[path] != now[path] for path in fixed & set(now)):
        return None
    defaults, run = ({path: of.get(path) for path in found["space"]} for of in (known, now))
    other = {
        path: now[path] for path in set(known) & set(now) - set(run) if now[path] != known[path]
    }
    has = "the same" if run == defaults else words(run)
    if found["best"] is not None and run == defaults | found["best"]:
        has = "the settings that were found best"
    but = f", but also {words(dict(sorted(other.items())))}" if other else ""
    relation = f"The defaults were then {words(defaults)}; this run has {has}{but}"
    return rows, found | {"relation": relation}


def _flat(settings: dict[str, Any]) -> dict[str, Any]:
    """Return settings by dotted path."""
    sections = {name: of for name, of in settings.items() if isinstance(of, dict)}
    return {f"{name}.{key}": value for name, of in sections.items() for key, value in of.items()}


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
