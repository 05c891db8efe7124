"""The record of a search: every trial in a table, what it found in a JSON file, and its figures.

This module is the only one that writes and reads the two.
"""

import csv
import itertools
import json
from collections.abc import Mapping
from typing import Any

import numpy as np
import optuna
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.ticker import NullFormatter
from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.study import Study
from optuna.trial import FrozenTrial

from stages.core import paths
from stages.core.artefacts import read_json, replacing, write_json
from stages.core.errors import DataError, printable
from stages.core.params import Params
from stages.reporting.figure_style import COLOURS, WIDTH, new_figure, style

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


FEW = 4  # trials below which there is nothing to draw
CAP = 3  # how many times as far from the best as the median a loss is drawn where it is
COLUMNS_OF_PARAMS = 2  # small charts beside each other


def draw_search(rows: list[Row], found: dict[str, Any]) -> dict[str, Figure]:
    """Return the figure search_params: the loss over each param, of several trials that differ."""
    trials = study_of(rows, found["space"]).trials
    varied = [path for path in found["space"] if len({t.params[path] for t in trials}) > 1]
    if len(trials) < FEW or not varied:
        return {}
    with style():
        return {"search_params": _draw_params(trials, varied, found["space"])}


def history(rows: list[Row]) -> pd.DataFrame:
    """Return the complete trials: trial (from 1), validation_loss and best_so_far in nats."""
    losses = [float(row["validation_loss"]) for row in rows if _counts(row)]
    frame = pd.DataFrame({"trial": range(1, len(losses) + 1), "validation_loss": losses})
    return frame.assign(best_so_far=frame["validation_loss"].cummin())


def _counts(row: Row) -> bool:
    """Return whether the trial is complete, and none of the finals, which repeat settings."""
    return (row["phase"], row["state"]) == ("search", "complete")


def _draw_params(trials: list[FrozenTrial], paths: list[str], space: dict[str, Any]) -> Figure:
    """Draw the loss of each trial over each param, the best trial in colour."""
    lines = -(-len(paths) // COLUMNS_OF_PARAMS)
    figure, grid = new_figure(
        WIDTH, 1.9 * lines + 0.3, COLUMNS_OF_PARAMS, lines, sharey=True, squeeze=False
    )
    losses = np.array([trial.value for trial in trials], dtype=float)
    best = int(losses.argmin())
    top = losses[best] + CAP * (np.median(losses) - losses[best]) or losses.max()
    beyond, losses = losses > top, losses.clip(max=top)
    found = {path: trials[best].params[path] for path in paths}
    figure.set_label(f"The best trial has {words(found)}.")
    for axes, path in itertools.zip_longest(grid.flat, paths):
        if path is None:
            axes.set_axis_off()
            continue
        values = [trial.params[path] for trial in trials]
        if choices := space[path].get("choices"):
            axes.xaxis.update_units([shown(choice) for choice in choices])  # in this order
        for marker, chosen in (("o", ~beyond), ("^", beyond)):
            at = list(itertools.compress(values, chosen))
            axes.scatter(at, losses[chosen], 18, color=COLOURS["muted"], marker=marker)
        axes.scatter(values[best], losses[best], 40, color=COLOURS["adapter"], marker="D")
        if space[path].get("log"):
            axes.set_xscale("log")
            axes.xaxis.set_major_formatter("{x:g}")
            axes.xaxis.set_minor_formatter(NullFormatter())
        axes.set_xlabel(path, fontsize=8)
        axes.tick_params(labelsize=8)
    figure.supylabel("validation log loss (nats)", fontsize=9, color=COLOURS["ink"])
    return figure


def study_of(rows: list[Row], space: dict[str, Any]) -> Study:
    """Return the complete trials of the search as a study in memory, choices in words."""
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    study = optuna.create_study()
    for row in rows:
        if not _counts(row):
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
