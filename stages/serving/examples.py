"""Rows of the last comparison that the adapter fixed and broke, as examples for people."""

from __future__ import annotations

import csv
from pathlib import Path

from stages.core.artefacts import remake
from stages.core.errors import DataError, printable

MOST = 6  # of each kind
COLUMNS = {"text": "text", "label": "label", "base": "base_predicted"}
COLUMNS["adapter"] = "adapter_predicted"


def read_examples(path: Path) -> dict[str, list[dict[str, str]]]:
    """Return the first rows that were `fixed` and `broken`: text, label, base, adapter.

    Args:
        path: metrics/flips.csv, in which the adapter's surest answers come first. Without the file
            there are no examples.

    Raises:
        DataError: if the file lacks a column or is not a table.
    """
    examples: dict[str, list[dict[str, str]]] = {"fixed": [], "broken": []}
    if not path.is_file():
        return examples
    try:
        with path.open(encoding="utf-8", newline="") as file:
            for row in csv.DictReader(file):
                chosen = examples.get(row["change"])
                if chosen is not None and len(chosen) < MOST:
                    chosen.append({name: str(row[column]) for name, column in COLUMNS.items()})
    except (KeyError, csv.Error, UnicodeDecodeError) as error:
        raise DataError(f"{path}: cannot be read: {printable(error)}", remake(path)) from error
    return examples
