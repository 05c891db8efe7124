"""The formats of a table: csv, tsv, jsonl, parquet and headerless text, each read strictly."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow.parquet as pq

from stages.core.errors import DataError, printable
from stages.rows.faults import Faults

CELL_LIMIT = 100_000_000  # characters of one cell, above what the csv module allows by default
Row = tuple[int, list[Any]]


def read_file(path: Path, columns: tuple[str, ...] | None) -> pd.DataFrame:
    """Return the rows of a file as a table whose index is each row's line, counted from 1.

    Args:
        path: its ending names the format.
        columns: the column names of a file that is tab-separated without header and quoting.

    Raises:
        DataError: with every fault: encoding, ragged rows, a column named twice, no rows.
    """
    if path.suffix == ".parquet":
        return _read_parquet(path)
    content = _decode(path)
    if not content.strip():
        raise DataError(f"{printable(path)}: line 1: the file is empty", "give a file with rows")
    if columns:
        return _frame(path, list(columns), _lines(content))
    if path.suffix == ".jsonl":
        return _read_jsonl(path, content)
    return _read_csv(path, content)


def _decode(path: Path) -> str:
    raw = path.read_bytes()
    try:
        return raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = raw[: error.start].count(b"\n") + 1
        raise DataError(
            f"{printable(path)}: line {line}: byte {error.start} is not UTF-8",
            "save the file as UTF-8",
        ) from None


def _lines(content: str) -> Iterator[Row]:
    for number, line in enumerate(content.split("\n"), start=1):
        if line.rstrip("\r"):
            yield number, line.rstrip("\r").split("\t")


def _read_csv(path: Path, content: str) -> pd.DataFrame:
    csv.field_size_limit(CELL_LIMIT)
    delimiter = "\t" if path.suffix == ".tsv" else ","
    reader = csv.reader(io.StringIO(content, newline=""), delimiter=delimiter, strict=True)
    try:
        header = next(cells for cells in reader if cells)
        other = next((sign for sign in ";\t|," if sign in header[0]), None)
        if len(header) == 1 and other:
            raise DataError(
                f"{printable(path)}: line {reader.line_num}: columns are separated by {other!r}",
                "separate them by commas, or by tabs in a .tsv file",
            )
        return _frame(path, header, _csv_rows(reader))
    except csv.Error as error:
        raise DataError(
            f"{printable(path)}: line {reader.line_num}: not valid csv: {printable(error)}",
            'write a quote inside a quoted cell twice: ""',
        ) from None


def _csv_rows(reader: Any) -> Iterator[Row]:
    """Yield the line on which each row starts, and its cells; an empty cell is None.

    Raises:
        csv.Error: naming the line on which the faulty row starts.
    """
    start = reader.line_num + 1
    try:
        for cells in reader:
            if cells:
                yield start, [cell if cell else None for cell in cells]
            start = reader.line_num + 1
    except csv.Error as error:  # a quote that never closes is found at the end of the file
        raise csv.Error(f"{error}, in the row that starts on line {start}") from None


def _read_jsonl(path: Path, content: str) -> pd.DataFrame:
    faults = Faults(path)
    lines: list[int] = []
    rows: list[dict[str, Any]] = []
    header: dict[str, None] = {}
    for number, line in enumerate(content.split("\n"), start=1):
        if not line.strip():
            continue
        try:
            row = json.loads(line, object_pairs_hook=_unique)
        except (ValueError, RecursionError) as error:
            why = printable(getattr(error, "msg", error), 60)
            faults.add(number, f"not valid JSON: {why}", "one object to a line")
            continue
        if not isinstance(row, dict):
            faults.add(number, "not a JSON object", "one object to a line")
            continue
        lines.append(number)
        rows.append(row)
        header.update(dict.fromkeys(row))
    faults.check()
    cells = ([row.get(name) for name in header] for row in rows)
    return _frame(path, list(header), zip(lines, cells, strict=True))


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    if len(dict(pairs)) < len(pairs):
        raise ValueError("a key occurs twice")
    return dict(pairs)


def _frame(path: Path, header: list[str], rows: Iterator[Row]) -> pd.DataFrame:
    """Return the rows as a table whose index is each row's line.

    Raises:
        DataError: if a column name occurs twice, a row is ragged, or there is no row.
    """
    twice = sorted({name for name in header if header.count(name) > 1})
    if twice:
        raise DataError(
            f"{printable(path)}: line 1: column {printable(twice[0])} occurs twice",
            "name each column once",
        )
    faults = Faults(path)
    lines: list[int] = []
    cells: list[tuple[Any, ...]] = []
    for line, row in rows:
        if len(row) != len(header):
            faults.add(
                line,
                f"{len(row)} cells where the header has {len(header)}",
                "quote cells that hold the separator or a line break",
            )
            continue
        lines.append(line)
        cells.append(tuple(row))
    faults.check()
    if not lines:
        raise DataError(f"{printable(path)}: line 1: a header but no rows", "give a file with rows")
    return pd.DataFrame(cells, columns=header, index=lines, dtype=object)


def _read_parquet(path: Path) -> pd.DataFrame:
    with path.open("rb") as file:  # a path would be searched for hive partitions, as in x=1/
        try:
            table = pq.ParquetFile(file).read()
        except (OSError, ValueError, NotImplementedError) as error:
            raise DataError(
                f"{printable(path)}: line 1: not a parquet file: {printable(error)}",
                "write it again",
            ) from None
    columns = {name: table.column(name).to_pylist() for name in table.column_names}
    rows = ((n, list(row)) for n, row in enumerate(zip(*columns.values(), strict=True), start=1))
    return _frame(path, table.column_names, rows)
