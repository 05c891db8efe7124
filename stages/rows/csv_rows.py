"""Read csv and tsv: the separator is the one under which the header has the wanted columns."""

from __future__ import annotations

import csv
import re
from collections.abc import Iterable, Iterator
from itertools import chain
from pathlib import Path
from typing import IO, Any

from stages.core.errors import DataError, printable
from stages.rows.faults import Faults
from stages.rows.fields import no_column
from stages.rows.files import NAMES, faults_of, open_text
from stages.rows.table import Row, Table
from stages.sources.data_files import format_of

CELL_LIMIT = 100_000_000  # characters of one cell, above what the csv module allows by default
HEADER_LINES = 100  # that one header may have, with line breaks in its quoted names
TWICE = 'write a quote inside a quoted cell twice: ""'
SIGNS = {",": "commas", ";": "semicolons", "\t": "tabs", "|": "bars"}
EXCEL_HINT = re.compile(r'"?sep=(.)"?\r?\n?')  # a first line that Excel writes and reads


def open_csv(path: Path, names: list[str], faults: Faults) -> Table:
    """Return the table in a csv or tsv file.

    Raises:
        DataError: if it is empty, not valid csv, or lacks one of the columns `names`.
    """
    csv.field_size_limit(CELL_LIMIT)
    file, encoding = open_text(path, newline="")
    with faults_of(path, encoding):
        above, head, hinted = _head(file)
        if not head:
            raise DataError(
                f"{printable(path)}: line 1: the file is empty", "give a file with rows"
            )
        signs = [hinted] if hinted else _signs(path)
        headers = {sign: _header(head, sign) for sign in signs}
    sign = _separator(headers, names)
    header = headers[sign]
    if not header:
        raise DataError(
            f"{printable(path)}: line {above + 1}: not valid csv: a quote in the header", TWICE
        )
    for name in names:
        if header.count(name) > 1:
            raise DataError(
                f"{printable(path)}: line {above + 1}: column {printable(name)} occurs twice",
                "name each column once",
            )
        if name not in header:
            raise no_column(path, name, header)
    places = [header.index(name) for name in names]

    def rows() -> Iterator[Row]:
        with file, faults_of(path, encoding):
            for line, cells in _without_empty_end(_cells(path, chain(head, file), sign, above)):
                while len(cells) > len(header) and not cells[-1]:  # Excel's empty columns
                    cells.pop()
                if len(cells) != len(header):
                    what = f"{len(cells)} cells where the header has {len(header)}"
                    faults.add(line, what, "quote cells that hold the separator or a line break")
                    continue
                yield line, [cells[place] or None for place in places]

    named = SIGNS.get(sign, repr(sign))
    return Table(f"csv separated by {named}, {NAMES[encoding]}", rows())


def _head(file: IO[str]) -> tuple[int, list[str], str | None]:
    """Return how many lines stand above the header, its lines, and the separator if one is named.

    The header ends where no quote is open.
    """
    above, hinted = 0, None
    head: list[str] = []
    for line in file:
        if not head and not line.strip():
            above += 1
        elif not head and above == 0 and (hint := EXCEL_HINT.fullmatch(line)):
            above, hinted = 1, hint[1]
        else:
            head.append(line)
            if "".join(head).count('"') % 2 == 0 or len(head) == HEADER_LINES:
                break
    return above, head, hinted


def _signs(path: Path) -> list[str]:
    """Return the separators to try, that of the ending first."""
    return sorted(SIGNS, key=lambda sign: sign != ("\t" if format_of(path) == "tsv" else ","))


def _header(head: list[str], sign: str) -> list[str]:
    """Return the names in the header's lines; none if they are not valid with that separator."""
    try:
        return next(csv.reader(head, delimiter=sign, strict=True), [])
    except csv.Error:
        return []


def _separator(headers: dict[str, list[str]], names: list[str]) -> str:
    """Return the separator that finds the most of the columns, or else makes the most of them."""

    def found(sign: str) -> tuple[int, int]:
        return len(set(names) & set(headers[sign])), len(headers[sign])

    first = next(iter(headers))
    best = max(headers, key=found)  # of equals, the first
    return best if found(best)[0] > found(first)[0] or len(headers[first]) < 2 else first


def _cells(
    path: Path, lines: Iterable[str], sign: str, above: int
) -> Iterator[tuple[int, list[str]]]:
    """Yield the line on which each row below the header starts, and its cells.

    Raises:
        DataError: naming the line on which the faulty row starts.
    """
    reader: Any = csv.reader(lines, delimiter=sign, strict=True)
    start = 1
    header = True
    try:
        for cells in reader:
            if cells and not header:
                yield above + start, cells
            header = False
            start = reader.line_num + 1
    except csv.Error as error:  # a quote that never closes is found at the end of the file
        at = above + reader.line_num
        raise DataError(
            f"{printable(path)}: line {at}: not valid csv: {printable(error)}, "
            f"in the row that starts on line {above + start}",
            TWICE,
        ) from None


def _without_empty_end(
    rows: Iterator[tuple[int, list[str]]],
) -> Iterator[tuple[int, list[str]]]:
    """Leave out the rows of nothing at the end of a sheet, as Excel writes them."""
    empty: list[tuple[int, list[str]]] = []
    for line, cells in rows:
        if not any(cells) and len(cells) > 1:
            empty.append((line, cells))
            continue
        yield from empty
        empty.clear()
        yield line, cells
