"""The record of a search: every trial in metrics/search.csv, what it found in metrics/search.json.

This module is the only one that writes and reads the two.
"""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

from stages.core import paths
from stages.core.artefacts import read_json, replacing, write_json
from stages.core.errors import DataError, printable

# The columns before those of the params, which have the params' dotted paths as names.
COLUMNS = (
    "trial",
    "phase",
    "state",
    "validation_loss",
    "validation_accuracy",
    "best_so_far",
    "seed",
    "epochs",
    "seconds",
    "precision",
)
KEYS = (
    *("study", "data", "model", "method", "space", "distributions", "trials"),
    *("finalists", "best", "verdict"),
)
FIX = f"restore them: git checkout {paths.SEARCH_TABLE} {paths.SEARCH}; or search again"
Row = dict[str, Any]


def write_search(rows: list[Row], found: dict[str, Any]) -> None:
    """Write the record in place of the last search's.

    Args:
        rows: a mapping for each trial, with COLUMNS (phase: search or final; state: complete,
            pruned or failed; losses in nats; epochs until the best evaluation step) and params.
        found: KEYS: the study's name, the sha256 of the data's source, base model and method, the
            space (ranges or choices by path) and it as Optuna's distributions in JSON, with choices
            as `shown` writes them, the number of trials by state, the finalists (changes, the loss
            they were found by, seeds, losses, accuracies), the best (changed params, empty for the
            defaults, null without finals), and it in words.
    """
    names = [*COLUMNS, *sorted({name for row in rows for name in row} - set(COLUMNS))]
    with (
        replacing(paths.SEARCH_TABLE) as temporary,
        temporary.open("w", encoding="utf-8", newline="") as file,
    ):
        writer = csv.DictWriter(file, names, lineterminator="\n")
        writer.writeheader()
        writer.writerows(
            {
                name: "" if row.get(name) is None and name in COLUMNS else shown(row.get(name))
                for name in names
            }
            for row in rows
        )
    write_json(paths.SEARCH, found)


def shown(value: Any) -> str:
    """Return a param's value or a figure as the table, YAML and `-S` have it."""
    if isinstance(value, float):
        return f"{value:.6g}"
    return value if isinstance(value, str) else json.dumps(value)


def read_search() -> tuple[list[Row], dict[str, Any]] | None:
    """Return rows (every value as text) and findings of the last search, None if there is none.

    Raises:
        DataError: if a file is damaged.
    """
    if not paths.SEARCH.exists() or not paths.SEARCH_TABLE.exists():
        return None
    try:
        found = read_json(paths.SEARCH)
    except DataError as error:
        raise DataError(error.faults[0][0], FIX) from error
    rows = _rows(paths.SEARCH_TABLE)
    if not found:
        return None
    if not isinstance(found, dict) or not set(KEYS) <= set(found):
        raise DataError(f"{paths.SEARCH}: lacks one of {', '.join(KEYS)}", FIX)
    return rows, found


def _rows(path: Path) -> list[Row]:
    try:
        with path.open(encoding="utf-8", newline="") as file:
            reader = csv.DictReader(file)
            rows: list[Row] = list(reader)
    except (UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"{path}: cannot be read: {printable(error)}", FIX) from error
    missing = sorted(set(COLUMNS) - set(reader.fieldnames or ()))
    if missing:
        raise DataError(f"{path}: lacks the column {missing[0]}", FIX)
    return rows
