"""Read the files of one split: the columns that matter, as text, every fault with its lines."""

from __future__ import annotations

import math
from array import array
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from stages.core.params import DataParams
from stages.rows.faults import Faults
from stages.rows.formats import open_table
from stages.rows.labels import label_of
from stages.rows.values import NoValueError, text_of
from stages.sources.locate import DataSource

if TYPE_CHECKING:  # heavy libraries are imported once the params have been checked
    import pandas as pd


@dataclass
class Columns:
    """The rows of a file, column by column, in the order of the file."""

    line: array[int] = field(default_factory=lambda: array("q"))
    text: list[str | None] = field(default_factory=list)
    label: list[str | None] = field(default_factory=list)
    rating: array[float] = field(default_factory=lambda: array("d"))
    group: list[str | None] = field(default_factory=list)


def read_table(
    path: Path, source: DataSource, params: DataParams, counts: Counter[str]
) -> tuple[pd.DataFrame, str]:
    """Return the rows of a file, and what was understood of it.

    Columns: line, text, label, and rating and group where there are such. `line` counts from 1 as
    an editor does (in parquet: rows). Texts are verbatim, labels and groups in their one spelling,
    each None where the file has nothing. A row whose rating is 0 has no label: it is counted, and
    left out.

    Raises:
        DataError: with every fault of the file.
    """
    import pandas as pd

    faults = Faults(path)
    names = [params.text_column, source.label_from_sign or params.label_column]
    if params.group_column:
        names.append(params.group_column)
    table = open_table(path, names, faults, source.columns)
    columns = Columns()
    for line, cells in table.rows:
        counts["rows_source"] += 1
        text = _cell(text_of, cells[0], line, faults)
        if source.label_from_sign:
            rating = _number(cells[1])
            if not math.isfinite(rating):
                what = f"{source.label_from_sign} is not a finite number"
                faults.add(line, what, "write a number")
            elif rating == 0:
                counts["rows_neutral"] += 1
                continue
            negative, positive = source.label_names or ("negative", "positive")
            columns.rating.append(rating)
            label: str | None = positive if rating > 0 else negative
        else:
            label = _cell(lambda value: label_of(value, source.label_names), cells[1], line, faults)
        if params.group_column:
            columns.group.append(_cell(lambda v: label_of(v, None), cells[2], line, faults))
        columns.line.append(line)
        columns.text.append(text)
        columns.label.append(label)
    faults.check()
    result = {
        "line": columns.line,
        "text": pd.Series(columns.text, dtype=object),
        "label": pd.Series(columns.label, dtype=object),
    }
    if source.label_from_sign:
        result["rating"] = columns.rating
    if params.group_column:
        result["group"] = pd.Series(columns.group, dtype=object)
    return pd.DataFrame(result), table.understood


def character_fault(text: str) -> tuple[str, str] | None:
    """Return what is wrong with the characters of a text and the remedy, or None."""
    if "\x00" in text:
        return "holds a NUL character", "remove it; the file may be binary"
    if not text.isascii() and any("\ud800" <= c <= "\udfff" for c in text):
        return "holds half of a surrogate pair", "write the complete character"
    return None


def _cell(read: Callable[[Any], str | None], value: Any, line: int, faults: Faults) -> str | None:
    """Return what `read` makes of a cell; note a fault of it, and return None."""
    try:
        text = read(value)
    except NoValueError as error:
        faults.add(line, error.what, error.fix)
        return None
    if text and (fault := character_fault(text)):
        faults.add(line, *fault)
    return text


def _number(value: Any) -> float:
    """Return the number, or NaN if it is none."""
    try:
        return float(value)
    except (TypeError, ValueError):
        return math.nan
