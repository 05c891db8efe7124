"""The record of a search: every trial in a table, and what it found in a JSON file.

This module is the only one that writes and reads the two.
"""

import json
from collections.abc import Mapping
from typing import Any

import pandas as pd

from stages.core import paths
from stages.core.artefacts import back, read_json, read_object, replacing, write_json
from stages.core.errors import DataError, printable
from stages.core.params import Params

# The columns before those of the params, which have the params' dotted paths as names.
COLUMNS = (
    *("trial", "phase", "state", "validation_loss", "validation_accuracy", "best_so_far"),
    *("seed", "epochs", "seconds"),
)
KEYS = ("study", "data", "settings", "space", "trials", "finalists", "best", "verdict")
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
    lines = [
        [
            "" if name in COLUMNS and row.get(name) is None else shown(row.get(name))
            for name in names
        ]
        for row in rows
    ]
    with replacing(paths.SEARCH_TABLE) as temporary:
        pd.DataFrame(lines, columns=names).to_csv(temporary, index=False, lineterminator="\n")
    write_json(paths.SEARCH, found)


def shown(value: Any) -> str:
    """Return a param's value or a figure as the table, YAML and `-S` have it."""
    if isinstance(value, float):
        return f"{value:.6g}"
    return value if isinstance(value, str) else json.dumps(value)


def words(changes: Mapping[str, Any]) -> str:
    """Return changed params as `KEY=VALUE`, one after the other."""
    return ", ".join(f"{path}={shown(value)}" for path, value in changes.items())


def read_search() -> tuple[pd.DataFrame, dict[str, Any]] | None:
    """Return trials (every value as text) and findings of the last search, None without one.

    Raises:
        DataError: if a file is damaged.
    """
    if not (paths.SEARCH.exists() and paths.SEARCH_TABLE.exists() and read_json(paths.SEARCH)):
        return None
    found = read_object(paths.SEARCH, *KEYS)
    try:
        trials = pd.read_csv(paths.SEARCH_TABLE, dtype=str, keep_default_na=False)
        return trials.astype(dict.fromkeys([*COLUMNS, *found["space"]], str)), found
    except (ValueError, KeyError) as error:
        what = f"{paths.SEARCH_TABLE}: not a table of trials: {printable(error, 160)}"
        raise DataError(what, back(paths.SEARCH_TABLE)) from error


def search_of_run(params: Params, source: str) -> tuple[pd.DataFrame, dict[str, Any]] | None:
    """Return trials and findings of the last search, None if it has nothing to say of this run.

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
    trials, found = search
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
    return trials, found | {"relation": relation}


def _flat(settings: dict[str, Any]) -> dict[str, Any]:
    """Return settings by dotted path."""
    sections = {name: of for name, of in settings.items() if isinstance(of, dict)}
    return {f"{name}.{key}": value for name, of in sections.items() for key, value in of.items()}


def complete(trials: pd.DataFrame) -> pd.DataFrame:
    """Return the complete trials without the finals, which repeat settings."""
    return trials[(trials["phase"] == "search") & (trials["state"] == "complete")]


def history(search: tuple[pd.DataFrame, dict[str, Any]] | None) -> pd.DataFrame:
    """Return the complete trials: trial (from 1), validation_loss and best_so_far in nats."""
    found = complete(search[0])["validation_loss"] if search else pd.Series(dtype=float)
    losses = found.astype(float).reset_index(drop=True)
    frame = pd.DataFrame({"trial": losses.index + 1, "validation_loss": losses})
    return frame.assign(best_so_far=losses.cummin())
