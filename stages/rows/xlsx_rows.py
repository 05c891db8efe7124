"""Read Excel's .xlsx: the one visible sheet that has the wanted columns."""

from __future__ import annotations

import io
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from stages.core.errors import DataError, HostError, printable
from stages.rows.fields import no_column
from stages.rows.files import faults_of, open_bytes
from stages.rows.table import Row, Table

# What XML cannot hold is written so: _x000D_ is a carriage return, _x005F_ an underscore.
ESCAPED = re.compile("_x([0-9A-Fa-f]{4})_")


def open_xlsx(path: Path, names: list[str]) -> Table:
    """Return the table in an .xlsx file; formulas count as the value that was saved with them.

    Raises:
        HostError: if the package that reads it is missing.
        DataError: if it is none, lacks one of the columns `names`, or two sheets have them.
    """
    try:
        import openpyxl
    except ImportError as error:
        raise HostError(
            f"{printable(path)}: to read .xlsx the package openpyxl is needed",
            "run: pip install -e '.[xlsx]', or save the sheet as .csv",
        ) from error
    with faults_of(path, "utf-8"):
        content = io.BytesIO(open_bytes(path).read())
    try:
        book = openpyxl.load_workbook(content, read_only=True, data_only=True)
        sheets = [sheet for sheet in book.worksheets if sheet.sheet_state == "visible"]
        headers = {sheet.title: _header(sheet) for sheet in sheets}
    except Exception as error:  # the library raises whatever its parsers meet
        raise DataError(
            f"{printable(path)}: line 1: not an .xlsx file: {printable(error)}",
            "save it again as .xlsx, or as .csv",
        ) from None
    sheet, (above, header) = _sheet(path, names, sheets, headers)
    places = [header.index(name) for name in names]

    def rows() -> Iterator[Row]:
        empty: list[Row] = []  # rows of nothing at the end are no rows
        for line, cells in enumerate(_cells(path, sheet), start=1):
            if line <= above + 1:
                continue
            cells += [None] * (len(header) - len(cells))
            row = line, [cells[place] for place in places]
            if any(cell is not None for cell in cells):
                yield from empty
                empty.clear()
                yield row
            else:
                empty.append(row)
        book.close()

    return Table(f"xlsx, sheet {printable(sheet.title)}", rows())


def _sheet(
    path: Path, names: list[str], sheets: list[Any], headers: dict[str, tuple[int, list[str]]]
) -> tuple[Any, tuple[int, list[str]]]:
    """Return the sheet that has the columns, the lines above its header, and the header."""
    having = [sheet for sheet in sheets if set(names) <= set(headers[sheet.title][1])]
    if len(having) > 1:
        titles = ", ".join(printable(sheet.title) for sheet in having)
        raise DataError(
            f"{printable(path)}: the sheets {titles} all have the columns {', '.join(names)}",
            "keep one of them in the file, or save each as a file of its own",
        )
    if not having:
        there = [name for _, header in headers.values() for name in header if name]
        if not there:
            raise DataError(
                f"{printable(path)}: line 1: the file is empty", "give a file with rows"
            )
        wanting = max(sheets, key=lambda sheet: len(set(names) & set(headers[sheet.title][1])))
        absent = next(name for name in names if name not in headers[wanting.title][1])
        raise no_column(path, absent, there)
    (sheet,) = having
    above, header = headers[sheet.title]
    for name in names:
        if header.count(name) > 1:
            raise DataError(
                f"{printable(path)}: line {above + 1}: column {printable(name)} occurs twice",
                "name each column once",
            )
    return sheet, (above, header)


def _header(sheet: Any) -> tuple[int, list[str]]:
    """Return how many empty rows come first, and the names in the first that is not."""
    sheet.reset_dimensions()  # some writers state the wrong ones
    for above, cells in enumerate(sheet.iter_rows(values_only=True)):
        if any(cell is not None for cell in cells):
            return above, ["" if cell is None else str(_cell(cell)) for cell in cells]
    return 0, []


def _cells(path: Path, sheet: Any) -> Iterator[list[Any]]:
    try:
        for row in sheet.iter_rows():
            yield [None if cell.data_type == "e" else _cell(cell.value) for cell in row]
    except Exception as error:  # as above
        raise DataError(
            f"{printable(path)}: not an .xlsx file: {printable(error)}",
            "save it again as .xlsx, or as .csv",
        ) from None


def _cell(value: Any) -> Any:
    if isinstance(value, str):
        return ESCAPED.sub(lambda code: chr(int(code[1], 16)), value) or None
    return value
