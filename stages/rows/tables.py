"""Read tables of texts strictly: csv, tsv, jsonl and parquet, every fault with its line numbers."""

from __future__ import annotations

import csv
import difflib
import io
import json
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from stages.core.errors import DataError, printable

if TYPE_CHECKING:  # heavy libraries are imported once the params are known to be right
    import pandas as pd

ENDINGS = (".csv", ".tsv", ".jsonl", ".parquet")
SHOWN = 5  # places of one kind of fault, and
KINDS = 20  # kinds of fault that one message names
CELL_LIMIT = 100_000_000  # characters of one cell: a text may be long, the reader must not choke
Row = tuple[int, list[Any]]


class Faults:
    """Collects the faults of one file, so that they are reported together.

    Each kind becomes one message with its count and its first line numbers.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.lines: dict[tuple[str, str], list[str]] = defaultdict(list)

    def add(self, place: object, what: str, fix: str) -> None:
        """Note that `what` is wrong at `place`, a line number or a pair of them."""
        self.lines[what, fix].append(str(place))

    def check(self) -> None:
        """End the reading if anything was noted.

        Raises:
            DataError: with one message for each kind of fault.
        """
        if self.lines:
            kinds = [
                (f"{printable(self.path)}: {_places(p)}: {what}", fix)
                for (what, fix), p in self.lines.items()
            ]
            more = len(kinds) - KINDS
            rest = [(f"{printable(self.path)}: {more} more faults like these", "mend these first")]
            raise DataError.from_faults(kinds[:KINDS] + (rest if more > 0 else []))


def _places(places: list[str]) -> str:
    shown = ", ".join(places[:SHOWN])
    more = len(places) - SHOWN
    word = "line" if len(places) == 1 else "lines"
    return f"{word} {shown}" + (f" and {more} more" if more > 0 else "")


def read_table(
    path: Path,
    text_column: str,
    label_column: str | None = None,
    columns: tuple[str, ...] | None = None,
    group_column: str | None = None,
) -> pd.DataFrame:
    """Return the rows of a file as columns line, text, label, [group], and the file's others.

    `line` counts from 1 as an editor does (in parquet: rows). Text and label are verbatim, and
    None where the file has nothing. With `columns` the file is tab-separated without a header and
    without quoting.

    Raises:
        DataError: with every fault of the file: encoding, ragged rows, missing columns.
    """
    import pandas as pd

    frame = _read_parquet(path) if path.suffix == ".parquet" else _read_text(path, columns)
    named_columns = {"text": text_column, "label": label_column, "group": group_column}
    wanted = {new: old for new, old in named_columns.items() if old}
    for name in wanted.values():
        if name not in frame.columns:
            raise _no_column(path, name, list(frame.columns))
    lines, frame = list(frame.index), frame.reset_index(drop=True)
    named = pd.DataFrame({"line": lines} | {new: frame[old] for new, old in wanted.items()})
    others = frame.drop(columns=[*wanted.values()])
    clash = others.columns.intersection(named.columns)
    result = pd.concat([named, others.drop(columns=clash)], axis=1)
    faults = Faults(path)
    for line, text in zip(result["line"], result["text"], strict=True):
        if isinstance(text, str) and "\x00" in text:
            faults.add(line, "holds a NUL character", "remove it; the file may be binary")
        elif isinstance(text, str) and not (text.isascii() or _encodes(text)):
            faults.add(line, "holds half of a surrogate pair", "write the character whole")
        elif text is not None and not isinstance(text, str):
            faults.add(line, "the text is not a string", "quote it, or set data.text_column")
    for line, label in zip(result["line"], result["label"] if label_column else (), strict=False):
        if isinstance(label, str) and ("\x00" in label or not _encodes(label)):
            what = "the label holds a NUL character or half of a surrogate pair"
            faults.add(line, what, "spell it with whole characters")
    faults.check()
    return result


def _encodes(text: str) -> bool:
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        return False
    return True


def _no_column(path: Path, name: str, there: list[str]) -> DataError:
    close = difflib.get_close_matches(name, there, n=1)
    hint = f", did you mean {printable(close[0])}?" if close else ""
    return DataError(
        f"{printable(path)}: line 1: no column {printable(name)}{hint}",
        f"name one of its columns: {printable(', '.join(there), 200)}",
    )


def _read_text(path: Path, columns: tuple[str, ...] | None) -> pd.DataFrame:
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
        raise ValueError("a key stands twice")
    return dict(pairs)


def _frame(path: Path, header: list[str], rows: Iterator[Row]) -> pd.DataFrame:
    """Return the rows as a table whose index is each row's line.

    Raises:
        DataError: if a column name stands twice, a row is ragged, or there is no row.
    """
    import pandas as pd

    twice = sorted({name for name in header if header.count(name) > 1})
    if twice:
        raise DataError(
            f"{printable(path)}: line 1: column {printable(twice[0])} stands twice",
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
    import pyarrow.parquet as pq

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
