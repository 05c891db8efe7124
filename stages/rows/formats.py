"""Read a table row by row, whatever its format: csv, tsv, jsonl, json, parquet, xlsx, plain text.

Each format is a module with one function of the same kind. Nothing is kept of a row that has been
passed on, so a file of any size is read in constant memory (an .xlsx, and a packed .parquet, are
unpacked as a whole).
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from stages.core.errors import DataError, printable
from stages.rows.faults import Faults
from stages.rows.fields import no_column
from stages.rows.files import NAMES, faults_of, open_text
from stages.rows.table import Cells, Row, Table
from stages.sources.data_files import compression_of, format_of

EMPTY = "give a file with rows"


def open_table(
    path: Path, names: list[str], faults: Faults, columns: tuple[str, ...] | None = None
) -> Table:
    """Return the table in a file: what was understood of it, and its rows to pass through once.

    Args:
        path: its ending names the format.
        names: the columns to read, maybe dotted; the cells of a row are in this order.
        faults: takes the rows that are left out because they cannot be read.
        columns: the column names of a file that is tab-separated without header and quoting.

    Raises:
        DataError: if it is not of its format, has no row, or lacks a column; while the rows are
            read, too.
    """
    if columns:
        table = _open_plain(path, names, columns, faults)
    elif format_of(path) in ("csv", "tsv"):
        from stages.rows.csv_rows import open_csv

        table = open_csv(path, names, faults)
    elif format_of(path) in ("json", "jsonl"):
        from stages.rows.json_rows import open_json

        table = open_json(path, names, faults)
    elif format_of(path) == "parquet":
        from stages.rows.parquet_rows import open_parquet

        table = open_parquet(path, names)
    else:
        from stages.rows.xlsx_rows import open_xlsx

        table = open_xlsx(path, names)
    packed = compression_of(path)
    understood = f"{table.understood}, {packed}" if packed else table.understood
    return Table(understood, _some(path, table.rows, faults), table.check)


def _some(path: Path, rows: Iterator[Row], faults: Faults) -> Iterator[Row]:
    """Yield the rows.

    Raises:
        DataError: if there was none, and no fault that explains it.
    """
    found = False
    for row in rows:
        found = True
        yield row
    if not found:
        faults.check()
        raise DataError(f"{printable(path)}: line 1: a header but no rows", EMPTY)


def _open_plain(path: Path, names: list[str], columns: tuple[str, ...], faults: Faults) -> Table:
    for name in names:
        if name not in columns:
            raise no_column(path, name, list(columns))
    places = [columns.index(name) for name in names]
    file, encoding = open_text(path, newline="\n")

    def rows() -> Iterator[Row]:
        with file, faults_of(path, encoding):
            for number, line in enumerate(file, start=1):
                cells: Cells = line.rstrip("\r\n").split("\t")
                if cells == [""]:
                    continue
                if len(cells) == len(columns):
                    yield number, [cells[place] for place in places]
                else:
                    what = f"{len(cells)} cells where there should be {len(columns)}"
                    faults.add(number, what, "separate the cells by single tabs")

    return Table(f"text separated by tabs, {NAMES[encoding]}", rows())
