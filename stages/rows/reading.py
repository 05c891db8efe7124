"""Read a table row by row, whatever its format: csv, tsv, jsonl, json, parquet, xlsx, plain text.

A function for each format understands the file and yields each row as its line and its fields by
name; `open_table` picks the wanted columns out of them, in one place for all formats. Nothing is
kept of a row that has been passed on, so a file of any size is read in constant memory, but for a
.json, an .xlsx and a packed .parquet, whose content is held as a whole.

To add a format: a function like the others in READERS, and its ending in `locate.FORMATS`.
"""

import codecs
import csv
import difflib
import gzip
import io
import json
import re
import zlib
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from itertools import chain, islice
from pathlib import Path
from typing import IO, Any, BinaryIO, cast

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from stages.core.errors import DataError, HostError, printable
from stages.sources.locate import compression_of, format_of

SHOWN = 5  # places of one kind of fault, and
KINDS = 20  # kinds of fault that one message names
SAMPLE = 100  # rows whose names a message offers, and
DEPTH = 10  # levels of nesting of these names
MISSING = object()

MARKS = (  # the longer first: UTF-32's begins as that of UTF-16
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
    (codecs.BOM_UTF8, "utf-8-sig"),
)
CELL_LIMIT = 100_000_000  # characters of a csv cell, above what the csv module allows by default
HEADER_LINES = 100  # that one csv header may have, with line breaks in its quoted names
SIGNS = {",": "commas", ";": "semicolons", "\t": "tabs", "|": "bars"}
EXCEL_HINT = re.compile(r'"?sep=(.)"?\r?\n?')  # a first line that Excel writes and reads
TWICE = 'write a quote inside a quoted cell twice: ""'
ONE_OBJECT = "one object to a line"
BATCH = 8192  # rows of parquet that are read at once
# What XML cannot hold is written so: _x000D_ is a carriage return, _x005F_ an underscore.
ESCAPED = re.compile("_x([0-9A-Fa-f]{4})_")


class Faults:
    """Collects the faults of one file, so that they are reported together.

    Each kind becomes one message with its count and its first line numbers.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.lines: dict[tuple[str, str], list[str]] = defaultdict(list)

    def add(self, place: object, what: str, fix: str) -> None:
        """Note that `what` is wrong at `place`, a line number."""
        self.lines[what, fix].append(str(place))

    def check(self) -> None:
        """End the reading if anything was noted.

        Raises:
            DataError: with one message for each kind of fault.
        """
        if not self.lines:
            return
        kinds = [
            (f"{printable(self.path)}: {_places(lines)}: {what}", fix)
            for (what, fix), lines in self.lines.items()
        ]
        if (more := len(kinds) - KINDS) > 0:
            rest = f"{printable(self.path)}: {more} more faults like these"
            kinds[KINDS:] = [(rest, "correct these first")]
        raise DataError.from_faults(kinds)


def _places(places: list[str]) -> str:
    more = f" and {len(places) - SHOWN} more" if len(places) > SHOWN else ""
    return f"line{'s' * (len(places) > 1)} {', '.join(places[:SHOWN])}{more}"


# The line, from 1 as an editor counts (parquet and .json: the row), and the cells.
Row = tuple[int, list[Any]]
Fields = tuple[int, Mapping[str, Any]]  # the line, and what stands there by name


@dataclass(frozen=True)
class Table:
    """A file that is being read.

    Attributes:
        understood: format, separator and encoding, for a person.
        rows: each row's line and its cells in the order of the names that were asked for; an empty
            cell is None.
        check: raises a DataError if no row so far has a column (where rows are nested; elsewhere
            the header is checked at once).
    """

    understood: str
    rows: Iterator[Row]
    check: Callable[[], None]


@dataclass(frozen=True)
class _Content:
    """What a format hands on; `header`, on `line`, is None where each row has names of its own."""

    understood: str
    rows: Iterator[Fields]
    header: list[str] | None = None
    line: int = 1


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
    reader = READERS[str(format_of(path))] if columns is None else partial(_read_plain, columns)
    content = reader(path, names, faults)
    if content.header is not None:
        _check_names(path, content.line, names, content.header)
    absent = set(names if content.header is None else ())

    def check() -> None:
        for name in names:
            if name in absent:
                raise _no_column(path, 1, name, _names_in(path))

    def rows() -> Iterator[Row]:
        count = 0
        for count, (line, fields) in enumerate(content.rows, start=1):  # noqa: B007  # read below
            cells = [field_of(fields, name) for name in names]
            if absent:
                pairs = zip(names, cells, strict=True)
                absent.difference_update(name for name, cell in pairs if cell is not MISSING)
            yield line, [None if cell is MISSING else cell for cell in cells]
        if not count:
            faults.check()
            raise _empty(path, "no rows")
        check()

    packed = compression_of(path)
    understood = f"{content.understood}, {packed}" if packed else content.understood
    return Table(understood, rows(), check)


def _empty(path: Path, what: str = "the file is empty") -> DataError:
    return DataError(f"{printable(path)}: line 1: {what}", "give a file with rows")


# Columns, by their maybe dotted names, as annotation tools write them: data.text, annotations.0.x


def field_of(value: Any, name: str) -> Any:
    """Return the field of a row by its name, or MISSING.

    A name that is there as it stands comes first; then each part between dots is a key of an
    object, or the place in a list, from 0.
    """
    if isinstance(value, list):
        first, _, rest = name.partition(".")
        if not (first.isascii() and first.isdecimal() and len(first) < 9):
            return MISSING
        if int(first) >= len(value):
            return None  # an empty list of annotations: there is none
        return field_of(value[int(first)], rest) if rest else value[int(first)]
    if value is None:
        return None
    if not isinstance(value, Mapping):
        return MISSING
    if name in value:
        return value[name]
    at = name.find(".")
    while at >= 0:  # a key may hold dots itself
        if name[:at] in value:
            found = field_of(value[name[:at]], name[at + 1 :])
            if found is not MISSING:
                return found
        at = name.find(".", at + 1)
    return MISSING


def _names_of(value: Any, depth: int = DEPTH) -> Iterator[str]:
    """Yield the dotted names of the plain fields in a row."""
    if isinstance(value, Mapping):
        fields: Any = value.items()
    elif isinstance(value, list):
        fields = enumerate(value[:1])
    else:
        return
    for name, content in fields:
        inner = list(_names_of(content, depth - 1)) if depth > 1 else []
        yield from (f"{name}.{rest}" for rest in inner)
        if not inner:
            yield str(name)


def _names_in(path: Path) -> list[str]:
    """Return the dotted names of the first rows of a file."""
    found = dict[str, None]()
    for _, fields in islice(READERS[str(format_of(path))](path, [], Faults(path)).rows, SAMPLE):
        found.update(dict.fromkeys(islice(_names_of(fields), SAMPLE)))
    return list(found)


def _check_names(path: Path, line: int, names: list[str], header: list[str]) -> None:
    for name in names:
        if header.count(name) > 1:
            raise DataError(
                f"{printable(path)}: line {line}: column {printable(name)} occurs twice",
                "name each column once",
            )
        if name not in header:
            raise _no_column(path, line, name, header)


def _no_column(path: Path, line: int, name: str, there: list[str]) -> DataError:
    """Return the error for a column that a file does not have, with a guess."""
    ends = [other for other in there if other.rpartition(".")[2] == name]
    close = ends[:1] or difflib.get_close_matches(name, there, n=1)
    hint = f", did you mean {printable(close[0])}?" if close else ""
    return DataError(
        f"{printable(path)}: line {line}: no column {printable(name)}{hint}",
        f"name one of its columns: {printable(', '.join(filter(None, there)), 200)}",
    )


# Files: unpacked, and decoded by their byte-order mark


def _open_bytes(path: Path) -> BinaryIO:
    """Return the unpacked bytes of a file; see `_faults_of` for the errors of reading them."""
    kind = compression_of(path)
    if kind == "gzip":
        return cast(BinaryIO, gzip.open(path, "rb"))
    if kind == "zstd":
        # Read from our own handle, since pyarrow reports a missing file in words of its own.
        unpacked = pa.CompressedInputStream(path.open("rb"), "zstd")
        return io.BufferedReader(cast(io.RawIOBase, unpacked))
    return path.open("rb")


def _open_text(path: Path, newline: str) -> tuple[IO[str], str]:
    """Return the decoded file and its encoding: by its byte-order mark or its NULs, or UTF-8.

    Args:
        path: the file.
        newline: as `io.TextIOWrapper` takes it: what ends a line.

    Raises:
        DataError: if it cannot be unpacked.
    """
    with _faults_of(path), _open_bytes(path) as file:
        head = file.read(4)
    encoding = next((name for mark, name in MARKS if head.startswith(mark)), "")
    if not encoding:  # pandas packs UTF-16 without a mark; the first two are letters of the header
        unmarked = {"0101": "utf-16-le", "1010": "utf-16-be"}
        encoding = unmarked.get("".join("10"[bool(byte)] for byte in head), "utf-8")
    return io.TextIOWrapper(_open_bytes(path), encoding=encoding, newline=newline), encoding


def _named(encoding: str) -> str:
    return "-".join(encoding.upper().split("-")[:2])


@contextmanager
def _faults_of(path: Path, encoding: str = "utf-8") -> Iterator[None]:
    """Turn what reading a file may raise into an error that names the file and the line.

    Raises:
        DataError: if the bytes are not of the encoding, or not those of the compression.
    """
    try:
        yield
    except UnicodeDecodeError:
        line, offset = _not_decoded(path, encoding)
        raise DataError(
            f"{printable(path)}: line {line}: byte {offset} is not {_named(encoding)}",
            "save the file as UTF-8",
        ) from None
    except (EOFError, zlib.error, OSError) as error:
        if isinstance(error, OSError) and error.errno is not None:  # the disk's own
            raise
        raise DataError(
            f"{printable(path)}: not a complete {compression_of(path)} file: {printable(error)}",
            "write it again",
        ) from None


def _not_decoded(path: Path, encoding: str) -> tuple[int, int]:
    """Return line and offset of the first byte that is not of the encoding."""
    line, offset, wide = 1, 0, not encoding.startswith("utf-8")
    with _open_bytes(path) as file:
        for content in [file.read()] if wide else file:
            try:
                content.decode(encoding if wide else "utf-8")
            except UnicodeDecodeError as error:
                before = content[: error.start].decode(encoding, "ignore")
                return line + before.count("\n"), offset + error.start
            line, offset = line + 1, offset + len(content)
    return line, offset


@contextmanager
def _faults_of_library(path: Path, what: str, fix: str) -> Iterator[None]:
    """Turn an error of a library that reads a format, whatever it is, into one of the file.

    Raises:
        DataError: with the library's reason.
    """
    try:
        yield
    except Exception as error:
        if isinstance(error, OSError) and error.errno is not None:  # the disk's own
            raise
        raise DataError(f"{printable(path)}: line 1: {what}: {printable(error)}", fix) from None


def _without_empty_end(rows: Iterator[Row]) -> Iterator[Row]:
    """Leave out the rows of nothing at the end of a sheet, as Excel writes them."""
    empty: list[Row] = []
    for line, cells in rows:
        if all(cell is None for cell in cells):
            empty.append((line, cells))
            continue
        yield from empty
        empty.clear()
        yield line, cells


# The formats


def _read_plain(columns: tuple[str, ...], path: Path, _: list[str], faults: Faults) -> _Content:
    """Read lines of cells separated by tabs, without header and quoting."""
    file, encoding = _open_text(path, newline="\n")

    def rows() -> Iterator[Fields]:
        with file, _faults_of(path, encoding):
            for number, line in enumerate(file, start=1):
                cells = line.rstrip("\r\n").split("\t")
                if len(cells) == len(columns):
                    yield number, dict(zip(columns, cells, strict=True))
                elif cells != [""]:
                    what = f"{len(cells)} cells where there should be {len(columns)}"
                    faults.add(number, what, "separate the cells by single tabs")

    understood = f"text separated by tabs, {_named(encoding)}"
    return _Content(understood, rows(), list(columns))


def _read_csv(path: Path, names: list[str], faults: Faults) -> _Content:
    """Read csv or tsv: the separator is the one under which the header has the most of the names.

    Of several, it is that of the ending, or the one that makes the most columns.
    """
    csv.field_size_limit(CELL_LIMIT)
    file, encoding = _open_text(path, newline="")
    with _faults_of(path, encoding):
        head = list(islice(file, HEADER_LINES))
    hint = EXCEL_HINT.fullmatch(head[0]) if head else None
    above = next((n for n, line in enumerate(head) if line.strip() and (n or not hint)), len(head))
    own = "\t" if format_of(path) == "tsv" else ","
    headers = {sign: _csv_header(head[above:], sign) for sign in (hint[1] if hint else SIGNS)}

    def fit(sign: str) -> tuple[int, bool, int]:
        found, width = len(set(names) & set(headers[sign])), len(headers[sign])
        return found, sign == own and width > 1, width

    sign = max(sorted(headers, key=lambda sign: sign != own), key=fit)
    header = headers[sign]
    if not header:
        if above == len(head):
            raise _empty(path)
        raise DataError(
            f"{printable(path)}: line {above + 1}: not valid csv: a quote in the header", TWICE
        )

    def rows() -> Iterator[Fields]:
        with file, _faults_of(path, encoding):
            lines = _csv_rows(path, chain(head[above:], file), sign, above)
            for line, cells in _without_empty_end(lines) if len(header) > 1 else lines:
                while len(cells) > len(header) and cells[-1] is None:  # Excel's empty columns
                    cells.pop()
                if len(cells) == len(header):
                    yield line, dict(zip(header, cells, strict=True))
                else:
                    what = f"{len(cells)} cells where the header has {len(header)}"
                    faults.add(line, what, "quote cells that hold the separator or a line break")

    understood = f"csv separated by {SIGNS.get(sign, repr(sign))}, {_named(encoding)}"
    return _Content(understood, rows(), header, above + 1)


def _csv_header(head: list[str], sign: str) -> list[str]:
    """Return the names in the header's lines; none if they are not valid with that separator."""
    try:
        return next(csv.reader(head, delimiter=sign, strict=True), [])
    except csv.Error:
        return []


def _csv_rows(path: Path, lines: Iterable[str], sign: str, above: int) -> Iterator[Row]:
    """Yield the line on which each row below the header starts, and its cells.

    Raises:
        DataError: naming the line on which the faulty row starts.
    """
    reader: Any = csv.reader(lines, delimiter=sign, strict=True)
    start = 1
    try:
        for number, cells in enumerate(reader):
            if cells and number:
                yield above + start, [cell or None for cell in cells]
            start = reader.line_num + 1
    except csv.Error as error:  # a quote that never closes is found at the end of the file
        raise DataError(
            f"{printable(path)}: line {above + reader.line_num}: not valid csv: "
            f"{printable(error)}, in the row that starts on line {above + start}",
            TWICE,
        ) from None


def _read_jsonl(path: Path, _: list[str], faults: Faults) -> _Content:
    """Read one JSON object to a line."""
    file, encoding = _open_text(path, newline="\n")

    def values() -> Iterator[tuple[int, Any]]:
        with file, _faults_of(path, encoding):
            for number, line in enumerate(file, start=1):
                if not line.strip():
                    continue
                try:
                    yield number, json.loads(line, object_pairs_hook=_unique)
                except (ValueError, RecursionError) as error:
                    faults.add(number, f"not valid JSON: {_reason(error)}", ONE_OBJECT)

    understood = f"one JSON object to a line, {_named(encoding)}"
    return _Content(understood, _objects(values(), faults))


def _read_json(path: Path, names: list[str], faults: Faults) -> _Content:
    """Read an array of objects, each found by its place from 1, or one object to a line."""
    file, encoding = _open_text(path, newline="")
    with file, _faults_of(path, encoding):
        text = file.read()
    if not text.strip():
        raise _empty(path)
    is_array = text.lstrip().startswith("[")
    try:
        found = json.loads(text, object_pairs_hook=_unique)
    except (ValueError, RecursionError) as error:
        if not is_array and "Extra data" in str(error):
            return _read_jsonl(path, names, faults)
        raise DataError(
            f"{printable(path)}: line {getattr(error, 'lineno', 1)}: not valid JSON: "
            f"{_reason(error)}",
            f"give an array of objects, or {ONE_OBJECT}",
        ) from None
    rows = _objects(enumerate(found if is_array else [found], start=1), faults)
    return _Content(f"JSON, {_named(encoding)}", rows)


def _objects(values: Iterable[tuple[int, Any]], faults: Faults) -> Iterator[Fields]:
    for line, value in values:
        if isinstance(value, dict):
            yield line, value
        else:
            faults.add(line, "not a JSON object", ONE_OBJECT)


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    if len(dict(pairs)) < len(pairs):
        raise ValueError("a key occurs twice")
    return dict(pairs)


def _reason(error: Exception) -> str:
    return printable(getattr(error, "msg", error), 60)


def _read_parquet(path: Path, names: list[str], _: Faults) -> _Content:
    """Read parquet in batches, the wanted columns alone (all of them without `names`)."""
    with _faults_of(path):
        # A path would be searched for hive partitions, as in x=1/.
        file = io.BytesIO(_open_bytes(path).read()) if compression_of(path) else path.open("rb")
    broken = path, "not a parquet file", "write it again"
    with _faults_of_library(*broken):
        parquet = pq.ParquetFile(file)
        header = parquet.schema_arrow.names
    wanted = [top for top in header if any(f"{name}.".startswith(f"{top}.") for name in names)]
    _check_names(path, 1, [top for top in wanted if header.count(top) > 1], header)

    def rows() -> Iterator[Fields]:
        line = 0
        with file:
            batches = parquet.iter_batches(BATCH, columns=wanted or None)
            while True:
                with _faults_of_library(*broken):
                    batch = next(batches, None)
                    if batch is None:
                        return
                    columns = dict(zip(batch.schema.names, map(_values, batch), strict=True))
                for cells in zip(*columns.values(), strict=True):
                    line += 1
                    yield line, dict(zip(columns, cells, strict=True))

    return _Content("parquet", rows())


def _values(column: Any) -> list[Any]:
    values: list[Any] = column.to_pylist(maps_as_pydicts="lossy")
    if pa.types.is_float32(column.type) or pa.types.is_float16(column.type):
        # 0.1 in single precision is 0.1, not 0.10000000149011612.
        return [None if value is None else float(str(np.float32(value))) for value in values]
    return values


def _read_xlsx(path: Path, names: list[str], _: Faults) -> _Content:
    """Read the one visible sheet that has the names; a formula is the value saved with it."""
    try:
        import openpyxl  # an extra of this project
    except ImportError as error:
        raise HostError(
            f"{printable(path)}: to read .xlsx the package openpyxl is needed",
            "run: pip install -e '.[xlsx]', or save the sheet as .csv",
        ) from error
    with _faults_of(path):
        content = io.BytesIO(_open_bytes(path).read())
    broken = path, "not an .xlsx file", "save it again as .xlsx, or as .csv"
    with _faults_of_library(*broken):
        book = openpyxl.load_workbook(content, read_only=True, data_only=True)
        sheets = [sheet for sheet in book.worksheets if sheet.sheet_state == "visible"]
        headers = [_xlsx_header(sheet) for sheet in sheets]
    found = [len(set(names) & set(header)) for _, header in headers]
    best = found.index(max(found))
    if found.count(len(set(names))) > 1:
        titles = ", ".join(
            printable(sheet.title)
            for sheet, count in zip(sheets, found, strict=True)
            if count == found[best]
        )
        raise DataError(
            f"{printable(path)}: the sheets {titles} all have the columns {', '.join(names)}",
            "keep one of them in the file, or save each as a file of its own",
        )
    at, header = headers[best]
    if not header:
        raise _empty(path)

    def rows() -> Iterator[Fields]:
        with _faults_of_library(*broken):
            below = (row for row in _xlsx_rows(sheets[best]) if row[0] > at)
            for line, cells in _without_empty_end(below):
                cells += [None] * (len(header) - len(cells))
                yield line, dict(zip(header, cells, strict=False))
            book.close()

    return _Content(f"xlsx, sheet {printable(sheets[best].title)}", rows(), header, at)


def _xlsx_header(sheet: Any) -> tuple[int, list[str]]:
    """Return the first line that is not empty, and the names in it."""
    sheet.reset_dimensions()  # some writers state the wrong ones
    for line, cells in _xlsx_rows(sheet):
        if any(cell is not None for cell in cells):
            return line, ["" if cell is None else str(cell) for cell in cells]
    return 1, []


def _xlsx_rows(sheet: Any) -> Iterator[Row]:
    for line, row in enumerate(sheet.iter_rows(), start=1):
        yield line, [None if cell.data_type == "e" else _xlsx_value(cell.value) for cell in row]


def _xlsx_value(value: Any) -> Any:
    if isinstance(value, str):
        return ESCAPED.sub(lambda code: chr(int(code[1], 16)), value) or None
    return value


READERS: dict[str, Callable[[Path, list[str], Faults], _Content]] = {
    "csv": _read_csv,
    "tsv": _read_csv,
    "jsonl": _read_jsonl,
    "json": _read_json,
    "parquet": _read_parquet,
    "xlsx": _read_xlsx,
}
