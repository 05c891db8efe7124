"""What each format hands on of a file: what was understood, and the rows one after the other."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

Cells = list[Any]
Row = tuple[int, Cells]  # the line, from 1 as an editor counts (parquet: the row), and the cells


@dataclass(frozen=True)
class Table:
    """A file that is being read.

    Attributes:
        understood: format, separator and encoding, for a person.
        rows: each row's line and its cells in the order of the names that were asked for; an empty
            cell is None.
    """

    understood: str
    rows: Iterator[Row]
