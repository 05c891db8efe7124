"""Read JSON: an object to a line (.jsonl), or an array of objects (.json), as a stream."""

from __future__ import annotations

import json
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import IO, Any

from stages.core.errors import DataError, printable
from stages.rows.faults import Faults
from stages.rows.fields import MISSING, field_of, names_of, no_column
from stages.rows.files import NAMES, faults_of, open_text
from stages.rows.table import Row, Table
from stages.sources.data_files import format_of

SIZE = 1 << 20  # characters that are read at once
SAMPLE = 100  # rows whose names a message offers
SPACE = " \t\r\n"
ONE_OBJECT = "one object to a line"
Value = tuple[int, Any]


def open_json(path: Path, names: list[str], faults: Faults) -> Table:
    """Return the table in a .jsonl or .json file.

    A .json file holds an array of objects, or objects one after the other. Columns that no row has
    are reported when the rows have been read.

    Raises:
        DataError: if it is empty.
    """
    lines = format_of(path) == "jsonl"
    file, encoding = open_text(path, newline="\n" if lines else "")
    values = _lines(file, faults) if lines else _values(path, file)

    absent, there = set(names), dict[str, None]()

    def check() -> None:
        for name in names:
            if name in absent:
                raise no_column(path, name, list(there))

    def rows() -> Iterator[Row]:
        count = 0
        with file, faults_of(path, encoding):
            for line, value in values:
                if not isinstance(value, dict):
                    faults.add(line, "not a JSON object", ONE_OBJECT)
                    continue
                cells = [field_of(value, name) for name in names]
                if absent:
                    found = zip(names, cells, strict=True)
                    absent.difference_update(name for name, cell in found if cell is not MISSING)
                    if count < SAMPLE:
                        there.update(dict.fromkeys(islice(names_of(value), SAMPLE)))
                count += 1
                yield line, [None if cell is MISSING else cell for cell in cells]
        if not count:
            faults.check()
            raise DataError(
                f"{printable(path)}: line 1: the file is empty", "give a file with rows"
            )
        check()

    kind = "one JSON object to a line" if lines else "JSON"
    return Table(f"{kind}, {NAMES[encoding]}", rows(), check)


def _lines(file: IO[str], faults: Faults) -> Iterator[Value]:
    for number, line in enumerate(file, start=1):
        if not line.strip():
            continue
        try:
            yield number, json.loads(line, object_pairs_hook=_unique)
        except (ValueError, RecursionError) as error:
            faults.add(number, f"not valid JSON: {_reason(error)}", ONE_OBJECT)


def _values(path: Path, file: IO[str]) -> Iterator[Value]:
    """Yield the elements of an array, or values one after the other, each with its line.

    In an array that is written on one line, an element is found by its place, from 1.

    Raises:
        DataError: at the first thing that is not valid JSON.
    """
    text = _Text(file)
    is_array = text.peek() == "["
    if is_array:
        text.at += 1
    count, before = 0, 0
    while sign := text.peek():
        if is_array and sign == "]":
            text.at += 1
            if text.peek():
                raise _invalid(path, text.line, "something follows the array")
            return
        if is_array and count:
            if sign != ",":
                raise _invalid(path, text.line, "Expecting ',' delimiter")
            text.at += 1
            text.peek()
        count += 1
        line = text.line
        try:
            yield line if line > before else count, text.value()
            before = line
        except (ValueError, RecursionError) as error:
            within = text.rest[: getattr(error, "pos", 0)].count("\n")
            raise _invalid(path, line + within, _reason(error)) from None
    if is_array:
        raise _invalid(path, text.line, "the array does not end")


class _Text:
    """The text of a file of which a part is held: what lies before `at` is done."""

    def __init__(self, file: IO[str]) -> None:
        self.file, self.rest, self.at, self.line = file, "", 0, 1
        self.decoder = json.JSONDecoder(object_pairs_hook=_unique)

    def more(self, size: int = SIZE) -> bool:
        """Read on, and drop what is done; return whether there was more."""
        read = self.file.read(size)
        self.rest, self.at = self.rest[self.at :] + read, 0
        return bool(read)

    def peek(self) -> str:
        """Return the next character that is no space, or "" at the end."""
        while True:
            while self.at < len(self.rest):
                sign = self.rest[self.at]
                if sign not in SPACE:
                    return sign
                self.line += sign == "\n"
                self.at += 1
            if not self.more():
                return ""

    def value(self) -> Any:
        """Return the JSON value that starts here, reading as far as it goes.

        Raises:
            ValueError: if there is none; its `pos` counts from where the value starts.
            RecursionError: if it is too deep.
        """
        while True:
            try:
                value, end = self.decoder.raw_decode(self.rest, self.at)
                break
            except json.JSONDecodeError:
                if not self.more(max(SIZE, len(self.rest))):
                    self.decoder.raw_decode(self.rest, self.at)  # fails again, with its place
                    raise
        self.line += self.rest.count("\n", self.at, end)
        self.at = end
        return value


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    if len(dict(pairs)) < len(pairs):
        raise ValueError("a key occurs twice")
    return dict(pairs)


def _reason(error: Exception) -> str:
    return printable(getattr(error, "msg", error), 60)


def _invalid(path: Path, line: int, why: str) -> DataError:
    return DataError(
        f"{printable(path)}: line {line}: not valid JSON: {why}",
        "give an array of objects, or one object to a line",
    )
