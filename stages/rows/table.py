"""What each format hands on of a file: what was understood, and the rows one after the other."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

Cells = list[Any]
Row = tuple[int, Cells]  # the line, from 1 as an editor counts (parquet: the row), and the cells


def _nothing() -> None:
    """Check nothing."""


@dataclass(frozen=True)
class Table:
    """A file that is being read.

    Attributes:
        understood: format, separator and encoding, for a person.
        rows: each row's line and its cells in the order of the names that were asked for; an empty
            cell is None.
        check: raises a DataError if no row so far has a column (JSON; elsewhere the header is
            checked at once).
    """

    understood: str
    rows: Iterator[Row]
    check: Callable[[], None] = _nothing
