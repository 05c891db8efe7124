"""Read a table row by row, whatever its format: csv, json, parquet, xlsx, text files, folders.

A function for each format understands the file and yields each row as its line and its fields by
name; `open_table` picks the wanted columns out of them, in one place for all formats. Nothing is
kept of a row that has been passed on, so a file of any size is read in constant memory, but for a
.json, an .xlsx and a packed .parquet, whose content is held as a whole.

To add a format: a function like the others in READERS, and its ending in `locate.FORMATS`. What
annotation tools and wrappers make of the rows is in `layouts`.
"""

import bz2
import codecs
import csv
import difflib
import gzip
import io
import json
import lzma
import re
import zlib
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from itertools import chain, islice, product, zip_longest
from pathlib import Path
from typing import IO, Any, BinaryIO, cast

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from stages.core.errors import DataError, HostError, printable
from stages.rows.labels import TO_UTF8, is_utf8
from stages.rows.layouts import (
    MISSING,
    Fields,
    answered,
    field_of,
    guessed_columns,
    looks_like_data,
    tables_in,
    takes_one_of_several,
    tool_of,
    unwrapped,
)
from stages.sources.locate import (
    ALIASES,
    DataSource,
    a_class_each,
    class_folders,
    compression_of,
    format_of,
    labels_beside,
)

SHOWN = 5  # places of one kind of fault, and
KINDS = 20  # kinds of fault that one message names
SAMPLE = 100  # rows whose names a message offers, and
DEPTH = 10  # levels of nesting of these names

OPENERS: dict[str | None, Callable[..., Any]] = {
    "gzip": gzip.open,
    "bzip2": bz2.open,
    "xz": lzma.open,
}
MARKS = (  # the longer first: UTF-32's begins as that of UTF-16
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
    (codecs.BOM_UTF8, "utf-8-sig"),
)
BROKEN = (EOFError, zlib.error, lzma.LZMAError, OSError)  # what unpacking raises
CELL_LIMIT = 100_000_000  # characters of a csv cell, above what the csv module allows by default
HEADER_LINES = 100  # that one csv header may have, with line breaks in its quoted names
SIGNS = {",": "commas", ";": "semicolons", "\t": "tabs", "|": "bars"}
# In the order in which they are tried, and what is said of them.
QUOTES = {'"': "", "": ", without quoting", "'": ", quoted by '"}
FASTTEXT = "__label__"
EXCEL_HINT = re.compile(r'"?sep=(.)"?\r?\n?')  # a first line that Excel writes and reads
ONE_OBJECT = "one object to a line"
TOOL_COLUMNS = {"annotations", "completions", "answer", "annotation_id", "responses"}
BATCH = 8192  # rows of parquet that are read at once


class Faults:
    """Collects the faults of one file, so that they are reported together.

    Each kind becomes one message with its count and its first line numbers.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.names: Sequence[str] = ()  # what the lines are called, where they are files
        self.lines: dict[tuple[str, str], list[str]] = defaultdict(list)

    def add(self, line: int, what: str, fix: str) -> None:
        """Note that `what` is wrong on a line."""
        self.lines[what, fix].append(self.names[line - 1] if self.names else str(line))

    def check(self) -> None:
        """End the reading if anything was noted.

        Raises:
            DataError: with one message for each kind of fault.
        """
        kinds = []
        for (what, fix), places in self.lines.items():
            more = f" and {len(places) - SHOWN} more" if len(places) > SHOWN else ""
            called = "" if self.names else f"line{'s' * (len(places) > 1)} "
            at = f"{called}{printable(', '.join(places[:SHOWN]), 400)}{more}"
            kinds.append((f"{printable(self.path)}: {at}: {what}", fix))
        if (more_kinds := len(kinds) - KINDS) > 0:
            rest = f"{printable(self.path)}: {more_kinds} more faults like these"
            kinds[KINDS:] = [(rest, "correct these first")]
        if kinds:
            raise DataError.from_faults(kinds)


# The line, from 1 as an editor counts (parquet and .json: the row; a folder: the file), and cells.
Row = tuple[int, list[Any]]


@dataclass
class Table:
    """A file that is being read.

    Attributes:
        understood: format, separator, encoding and layout, for a person.
        rows: each row's line and its cells in the order of the names that were asked for; an empty
            cell is None. To pass through once. From a format: its line, and its fields by name.
        header: the names of the columns; None where each row has names of its own.
        line: that of the header.
        sample: the first lines from it on.
        left_out: answers of annotators that are none, by the reason, once the rows are read.
        notes: what else there is to say then.
    """

    understood: str
    rows: Iterator[Any]
    header: list[str] | None = None
    line: int = 1
    sample: list[list[Any]] = field(default_factory=list)
    left_out: Counter[str] = field(default_factory=Counter)
    notes: list[str] = field(default_factory=list)


def open_table(
    path: Path,
    names: list[str],
    faults: Faults,
    columns: tuple[str, ...] | None = None,
    header: bool = True,
    labelled: bool = False,
) -> Table:
    """Return the table in a file: what was understood of it, and its rows to pass through once.

    Args:
        path: its ending names the format; a folder has a folder for each class.
        names: the columns to read, maybe dotted; the cells of a row are in this order.
        faults: takes the rows that are left out because they cannot be read.
        columns: the column names of a file that is tab-separated without header and quoting.
        header: whether the first line names the columns; else their names are numbers from 1.
        labelled: whether the second name is that of the label, so that each answer of an
            annotator is a row.

    Raises:
        DataError: if it is not of its format, has no row, or lacks a column; while the rows are
            read, too.
    """
    if columns is not None:
        file, encoding = _open_text(path)
        rows = _csv_rows(file, file, ("\t", ""), 0, list(columns), faults)
        table = Table(f"text separated by tabs, {_named(encoding)}", rows, list(columns))
    else:
        kind = "json" if path.parent.is_file() else str(format_of(path))
        table = READERS["folder" if path.is_dir() else kind](path, names, faults, header)
    if table.header is not None:
        _check_names(path, table, names, header and labelled)
    first = next(table.rows, None)
    rows = table.rows if first is None else chain([first], table.rows)
    tool = tool_of(first[1]) if first else None
    table.understood = ", ".join(filter(None, [table.understood, tool, compression_of(path)]))
    label = names[1] if labelled else None
    if tool:
        rows = answered(rows, tool, label, table.left_out, faults.add)
    table.rows = _picked(rows, names, label, table, faults)
    return table


def _picked(
    rows: Iterator[Fields], names: list[str], label: str | None, table: Table, faults: Faults
) -> Iterator[Row]:
    """Yield line and wanted cells of each row; refuse a column that none of them has."""
    absent = [] if table.header else names
    first = list[Mapping[str, Any]]()
    count = several = 0
    for count, (line, fields) in enumerate(rows, start=1):  # read below
        cells = [field_of(fields, name) for name in names]
        if absent:
            first += [fields] * (count <= SAMPLE)
            found = dict(zip(names, cells, strict=True))
            absent = [name for name in absent if found[name] is MISSING]
        several += label is not None and "." in label and takes_one_of_several(fields, label)
        yield line, [None if cell is MISSING else cell for cell in cells]
    if not count:
        faults.check()
        raise _empty(faults.path, "no answer is left" if table.left_out else "no rows")
    for name in absent:
        lists = [list(row.values()) for row in first if isinstance(row, Listed) and len(row) > 1]
        there = dict.fromkeys(found for row in first for found in islice(_names_of(row), SAMPLE))
        sample = lists if len(lists) == len(first) else []
        raise _no_column(faults.path, 1, name, list(there), sample)
    if several:
        what = f"{several:,} of {count:,} rows have more than one label or answer"
        table.notes.append(f"{what}; {label} reads one of them, not the others")


def own_splits(source: DataSource) -> DataSource:
    """Return a source with the splits that its one .json file holds: {"train": [...], ...}.

    A split is a list of rows, or an object with a list for each column. The path of each is that
    of the file and the split's key.
    """
    file, *more = source.splits.get("all", (Path(),))
    if more or format_of(file) != "json":
        return source
    lines, content, _ = _load_json(file)
    tables = content.items() if isinstance(content, dict) and not lines else ()
    keys = [key for key, rows in tables if _is_table(rows)]
    splits: dict[str, tuple[Path, ...]] = {
        ALIASES[key]: (file / key,) for key in keys if key in ALIASES
    }
    if not {"train", "test"} <= set(splits):
        return source
    for part in (file / key for key in keys):
        if (part,) not in splits.values():
            print(f"ignored: {printable(part)} beside {', '.join(splits)}", flush=True)
    return replace(source, splits=splits)


def _is_table(value: Any) -> bool:
    """Return whether a value is a list of rows, or an object with a list for each column."""
    if isinstance(value, dict):
        return bool(value) and all(isinstance(column, list) for column in value.values())
    return isinstance(value, list) and bool(value) and isinstance(value[0], (dict, list))


def _refusal(path: Path, line: int, what: str, fix: str) -> DataError:
    return DataError(f"{printable(path)}: line {line}: {what}", fix)


def _empty(path: Path, what: str = "the file is empty") -> DataError:
    return _refusal(path, 1, what, "give a file with rows")


def _names_of(value: Any, depth: int = DEPTH) -> Iterator[str]:
    """Yield the dotted names of the plain fields in a row."""
    fields = value.items() if isinstance(value, Mapping) else enumerate(value[:1])
    for name, content in fields:
        inner = list(_names_of(content, depth - 1)) if depth > 1 and _holds(content) else []
        yield from (f"{name}.{rest}" for rest in inner)
        if not inner:
            yield str(name)


def _holds(value: Any) -> bool:
    return isinstance(value, (Mapping, list))


def _check_names(path: Path, table: Table, names: list[str], may_lack_header: bool) -> None:
    header = table.header or []
    for name in names:
        if header.count(name) > 1:
            raise _twice(path, table.line, name)
        first_of = name.removesuffix(".0") if tool_of(dict.fromkeys(header)) else name
        if first_of not in header:
            bare = may_lack_header and len(header) > 1 and looks_like_data(table.sample)
            raise _no_column(path, table.line, name, header, table.sample if bare else [])


def _twice(path: Path, line: int, name: str) -> DataError:
    return _refusal(path, line, f"column {printable(name)} occurs twice", "name each column once")


def _no_column(
    path: Path, line: int, name: str, there: list[str], sample: list[list[Any]]
) -> DataError:
    """Return the error for a column that a file does not have, with a guess.

    Args:
        path: the file.
        line: of its header.
        name: the column.
        there: the names that it has.
        sample: rows, where the columns have no names.
    """
    what = f"no column {printable(name)}"
    if sample:
        text, label = guessed_columns(sample)
        what += f": the line looks like a row, not like names: {printable(', '.join(there))}"
        fix = f"data.text_column to {text} and data.label_column to {label}"
        return _refusal(path, line, what, f"set data.header to false, {fix}, or give them names")
    if not there:
        return _empty(path, "no rows")
    if not all(map(is_utf8, there)):
        return _refusal(path, line, "not UTF-8", TO_UTF8)
    ends = [other for other in there if other.rpartition(".")[2] == name]
    close = ends[:1] or difflib.get_close_matches(name, there, n=1)
    hint = f", did you mean {printable(close[0])}?" if close else ""
    columns = printable(", ".join(filter(None, there)), 200)
    return _refusal(path, line, what + hint, f"name one of its columns: {columns}")


# Files: unpacked, and decoded by their byte-order mark


def _open_bytes(path: Path) -> BinaryIO:
    """Return the unpacked bytes of a file; see `_faults_of` for the errors of reading them."""
    kind = compression_of(path)
    if kind in OPENERS:
        return cast(BinaryIO, OPENERS[kind](path, "rb"))
    if kind == "zstd":
        # Read from our own handle, since pyarrow reports a missing file in words of its own.
        unpacked = pa.CompressedInputStream(path.open("rb"), "zstd")
        return io.BufferedReader(cast(io.RawIOBase, unpacked))
    return path.open("rb")


def _open_text(path: Path, newline: str = "\n") -> tuple[IO[str], str]:
    """Return the decoded file and its encoding, by its byte-order mark, or UTF-8.

    A byte that is not UTF-8 becomes a surrogate, which the check of its cell finds.

    Args:
        path: the file.
        newline: as `io.TextIOWrapper` takes it: what ends a line.

    Raises:
        DataError: if it cannot be unpacked.
    """
    with _faults_of(path), _open_bytes(path) as file:
        head = file.read(4)
    encoding = next((name for mark, name in MARKS if head.startswith(mark)), "utf-8")
    errors = "surrogateescape" if encoding.startswith("utf-8") else "strict"
    return io.TextIOWrapper(_open_bytes(path), encoding, errors, newline), encoding


def _named(encoding: str) -> str:
    return "-".join(encoding.upper().split("-")[:2])


@contextmanager
def _faults_of(path: Path, kind: str = "") -> Iterator[None]:
    """Turn what reading a file may raise into an error that names the file.

    Args:
        path: the file.
        kind: what a library reads it as, which may raise anything.

    Raises:
        DataError: if the bytes are not of the encoding, not those of the compression, or not of
            this kind.
    """
    expected: tuple[type[Exception], ...] = (Exception,) if kind else BROKEN
    try:
        yield
    except UnicodeDecodeError as error:
        what = f"not {_named(error.encoding)}: {error.reason}"
        raise DataError(f"{printable(path)}: {what}", TO_UTF8) from None
    except expected as error:
        if isinstance(error, OSError) and error.errno is not None:  # the disk's own
            raise
        what = f"line 1: not {kind}" if kind else f"not a complete {compression_of(path)} file"
        why = printable(error)
        raise DataError(f"{printable(path)}: {what}: {why}", "write it again") from None


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


def _read_csv(path: Path, names: list[str], faults: Faults, has_header: bool) -> Table:
    """Read csv or tsv: the separator is the one under which the header has the most of the names.

    Of several, it is that of the ending, or the one that makes the most columns. Without a header,
    it is one that makes equally many in the first lines.
    """
    csv.field_size_limit(CELL_LIMIT)
    file, encoding = _open_text(path, newline="")
    with _faults_of(path):
        head = list(islice(file, HEADER_LINES))
    hint = EXCEL_HINT.fullmatch(head[0]) if head else None
    above = next((n for n, line in enumerate(head) if line.strip() and (n or not hint)), len(head))
    if above == len(head):
        raise _empty(path)
    if head[above].startswith((FASTTEXT, '{"', '[{"')):  # whatever the ending says
        read = _read_fasttext if head[above].startswith(FASTTEXT) else _read_json
        return read(path, names, faults, has_header)
    own = "," if format_of(path) == "csv" else "\t"
    signs = sorted(hint[1] if hint else SIGNS, key=lambda sign: sign != own)
    pairs = product(signs, QUOTES)
    samples = {pair: found for pair in pairs if (found := _cells(head[above:], *pair))}
    wanted = set(names if has_header else [])

    def fit(pair: tuple[str, str]) -> tuple[int, ...]:
        first, *below = samples[pair]
        width = len(first)
        even = not has_header and width > 1 and all(len(row) == width for row in below)
        named, liked = len(wanted & set(first)), -list(QUOTES).index(pair[1])
        usual = pair[0] == own and width > 1
        return named, even, has_header or pair[1] != "'", usual, liked, width

    sign, quote = max(samples, key=fit)
    sample = samples[sign, quote]
    width = len(sample[0])
    header = sample[0] if has_header else [str(n + 1) for n in range(width)]
    if quote != "'":
        with _faults_of(path):
            quote = _quote_of(path, sign, width, above, sample)
        sample = _cells(head[above:], sign, quote) or sample

    lines = chain(head[above:], file)
    rows = _csv_rows(file, lines, (sign, quote), above, header, faults, has_header)
    by = SIGNS.get(sign, repr(sign))
    understood = f"csv separated by {by}{QUOTES[quote]}, {_named(encoding)}"
    return Table(understood, rows, header, above + 1, sample)


def _reader(lines: Iterable[str], sign: str, quote: str) -> Any:
    if not quote:
        return csv.reader(lines, delimiter=sign, quoting=csv.QUOTE_NONE)
    return csv.reader(lines, delimiter=sign, quotechar=quote, strict=True)


def _cells(head: list[str], sign: str, quote: str) -> list[list[str]]:
    """Return the cells of the rows up to the first that is not valid."""
    rows: list[list[str]] = []
    with suppress(csv.Error):
        rows.extend(cells for cells in _reader(head, sign, quote) if cells)
    return rows


def _quote_of(path: Path, sign: str, width: int, above: int, sample: list[list[str]]) -> str:
    """Return what quotes the cells of a file: the first of ", nothing and ' under which it fits.

    A single quote comes first where all cells of a column have it. Where quoted cells join lines
    that are whole, in a table with tabs, which is seldom quoted, the marks are a part of the text.
    """
    columns = [[row[n] for row in sample[1:] if n < len(row)] for n in range(width)]
    throughout = any(cells and all(_wrapped(cell, "'") for cell in cells) for cells in columns)
    for quote in ["'"] * throughout + list(QUOTES) * (width > 1):
        fits, joins, wrapped = _fits(path, sign, quote, width, above)
        if fits and not (joins and sign == "\t" and quote == '"'):
            return quote if wrapped < 0.5 else '"'  # most are quoted: one is not as it should be
    return '"'


def _fits(path: Path, sign: str, quote: str, width: int, above: int) -> tuple[bool, bool, float]:
    """Return whether each row has `width` cells, whether one has several lines, the quoted share.

    That is the share of rows with a cell that begins and ends with a double quote.
    """
    file, _ = _open_text(path, newline="")
    rows = wrapped = 0
    with file, suppress(csv.Error):
        reader = _reader(islice(file, above, None), sign, quote)
        for cells in reader:
            rows += 1
            if len(cells) != width and cells and (len(cells) < width or any(cells[width:])):
                return False, False, 0
            wrapped += not quote and any(_wrapped(cell, '"') for cell in cells)
        return True, reader.line_num > rows, wrapped / max(rows, 1)
    return False, False, 0


def _wrapped(cell: str, quote: str) -> bool:
    return len(cell) > 1 and cell[0] == cell[-1] == quote


def _csv_rows(
    file: IO[str],
    lines: Iterable[str],
    dialect: tuple[str, str],
    above: int,
    header: list[str],
    faults: Faults,
    has_header: bool = False,
) -> Iterator[Fields]:
    """Yield the line on which each row starts, and its fields.

    Args:
        file: closed at the end.
        lines: what is left of it.
        dialect: what separates cells, and what quotes them.
        above: how many lines are not among them.
        header: the names of the columns.
        faults: takes the rows of another width.
        has_header: whether the first row is the header.

    Raises:
        DataError: naming the line on which a row starts that is no csv.
    """
    path, width = faults.path, len(header)
    reader = _reader(lines, *dialect)

    def rows() -> Iterator[Row]:
        start = 1
        for number, cells in enumerate(reader):
            if cells and (number or not has_header):
                yield above + start, [cell or None for cell in cells]
            start = reader.line_num + 1

    line = above
    try:
        with file, _faults_of(path):
            for line, cells in _without_empty_end(rows()) if width > 1 else rows():
                while len(cells) > width and cells[-1] is None:  # Excel's empty columns
                    cells.pop()
                if len(cells) == width:
                    yield line, dict(zip(header, cells, strict=True))
                else:
                    what = f"{len(cells)} cells where there should be {width}"
                    faults.add(line, what, "quote cells that hold the separator or a line break")
    except csv.Error as error:  # a quote that never closes is found at the end of the file
        what = f"not valid csv: {printable(error)}, in the row after line {line}"
        fix = 'write a quote inside a quoted cell twice: ""'
        raise _refusal(path, above + reader.line_num, what, fix) from None


def _read_txt(path: Path, names: list[str], faults: Faults, has_header: bool) -> Table:
    """Read fastText's lines, texts with their labels in a second file, or a table as in .tsv."""
    if labels := labels_beside(path):
        return _read_pair(path, labels)
    table = _read_csv(path, names, faults, has_header)
    if table.header is not None and len(table.header) < 2:
        stem = path.name.partition(".")[0]
        beside = re.sub("texts?$", "labels", stem) if "text" in stem else f"{stem}_labels"
        fix = "give a label and a text on each line with a tab between them, or the labels in a "
        fix += f"second file, {printable(beside)}.txt; {a_class_each(path.parent)}"
        what = f"neither fastText ({FASTTEXT}x text) nor a table with tabs"
        raise _refusal(path, 1, what, fix)
    return table


def _read_fasttext(path: Path, _: list[str], __: Faults, ___: bool) -> Table:
    file, encoding = _open_text(path)

    def rows() -> Iterator[Fields]:
        with file, _faults_of(path):
            for number, line in enumerate(file, start=1):
                labels, text = [], line.rstrip("\r\n")
                while (rest := text.lstrip()).startswith(FASTTEXT):
                    label, *after = re.split("[ \t]", rest, maxsplit=1)
                    labels.append(label.removeprefix(FASTTEXT))
                    text = after[0] if after else ""
                if line.strip():
                    yield number, {"label": labels, "text": text}

    return Table(f"fastText, {_named(encoding)}", rows())


def _read_pair(path: Path, beside: Path) -> Table:
    """Read texts and labels of two files, a row to a line."""
    file, encoding = _open_text(path)
    labels, _ = _open_text(beside)

    def rows() -> Iterator[Fields]:
        with file, labels, _faults_of(path), _faults_of(beside):
            for number, (text, label) in enumerate(zip_longest(file, labels), start=1):
                if text is not None and label is not None:
                    yield number, {"text": text.rstrip("\r\n"), "label": label.rstrip("\r\n")}
                elif (text or label).strip():
                    short, long = (path, beside) if text is None else (beside, path)
                    what = f"missing; {printable(long.name)} has it"
                    fix = "give one text and one label for each row, each on its line"
                    raise _refusal(short, number, what, fix)

    understood = f"texts, with their labels in {printable(beside.name)}, {_named(encoding)}"
    return Table(understood, rows(), ["text", "label"])


def _read_folder(path: Path, _: list[str], faults: Faults, __: bool) -> Table:
    """Read a folder for each class, in which each file is a text."""
    classes = class_folders(path)
    files = [file for own in classes.values() for file in own]
    faults.names = [str(file.relative_to(path)) for file in files]
    if empty := [name for name, own in classes.items() if not own]:
        raise DataError(
            f"{printable(path / empty[0])}: holds no text file",
            "add its texts, or remove the folder",
        )

    def rows() -> Iterator[Fields]:
        for number, file in enumerate(files, start=1):
            text = file.read_bytes().decode("utf-8-sig", "surrogateescape").removesuffix("\n")
            yield number, {"text": text.removesuffix("\r"), "label": file.parent.name}

    understood = f"a folder for each of {len(classes)} classes, {len(files):,} files"
    return Table(understood, rows(), ["text", "label"])


def _read_json(path: Path, names: list[str], faults: Faults, _: bool) -> Table:
    """Read an array of objects, each found by its place from 1, what wraps one, or JSON lines.

    A path inside a file is one of the tables in it.
    """
    key = path.name if path.parent.is_file() else None
    lines, content, encoding = _load_json(path.parent if key else path)
    if lines:
        understood = f"one JSON object to a line, {_named(encoding)}"
        return Table(understood, _objects(_json_lines(path, faults), names, faults))
    wrapped, rows = "", content[key] if key else content
    if isinstance(rows, dict):
        try:
            wrapped, rows = unwrapped(rows, names)
        except ValueError as error:
            raise _refusal(path, 1, *error.args) from None
    found = _objects(enumerate(rows, start=1), names, faults)
    if wrapped and any(name.startswith(f"{wrapped}.") for name in names):
        # A name such as data.0.text, which leads through the wrapping, means the field of each row.
        found = ((line, {**row, **_nested(wrapped, [row])}) for line, row in found)
    about = f"JSON ({printable(wrapped)})" if wrapped else "JSON"
    return Table(f"{about}, {_named(encoding)}", found)


def _nested(name: str, value: Any) -> dict[str, Any]:
    first, _, rest = name.partition(".")
    return {first: _nested(rest, value) if rest else value}


def _load_json(path: Path) -> tuple[bool, Any, str]:
    """Return whether a file is one JSON value to a line; else its one value; and the encoding.

    Raises:
        DataError: if it is empty, or a .json that is neither.
    """
    file, encoding = _open_text(path, newline="")
    with file, _faults_of(path):
        filled = (line for line in file if line.strip())
        first, second = next(filled, ""), next(filled, "")
        if not first:
            raise _empty(path)
        with suppress(ValueError, RecursionError):
            value = json.loads(first, object_pairs_hook=_unique)
            wraps = isinstance(value, dict) and tool_of(value) is None and tables_in(value)
            rows = isinstance(value, list) and (not value or isinstance(value[0], (dict, list)))
            one = format_of(path) == "json" or wraps or rows
            return bool(second) or not one, value, encoding
    file, _ = _open_text(path, newline="")
    with file, _faults_of(path):
        text = file.read()
    try:
        return False, json.loads(text, object_pairs_hook=_unique), encoding
    except (ValueError, RecursionError) as error:
        if format_of(path) != "json":
            return True, None, encoding
        what = f"not valid JSON: {_reason(error)}"
        fix = f"give an array of objects, or {ONE_OBJECT}"
        raise _refusal(path, getattr(error, "lineno", 1), what, fix) from None


def _json_lines(path: Path, faults: Faults) -> Iterator[tuple[int, Any]]:
    file, _ = _open_text(path)
    with file, _faults_of(path):
        for number, line in enumerate(file, start=1):
            if not line.strip():
                continue
            try:
                yield number, json.loads(line, object_pairs_hook=_unique)
            except (ValueError, RecursionError) as error:
                faults.add(number, f"not valid JSON: {_reason(error)}", ONE_OBJECT)


def _objects(
    values: Iterable[tuple[int, Any]], names: list[str], faults: Faults
) -> Iterator[Fields]:
    """Yield the objects, and the lists with the names that the first has, or numbers from 1."""
    header: list[str] | None = None
    for place, (line, value) in enumerate(values):
        if isinstance(value, dict):
            yield line, value
        elif not isinstance(value, list):
            faults.add(line, "not a JSON object", "write each row as an object with its columns")
        elif not place and set(names) & set(map(str, value)):
            header = [str(name) for name in value]
        elif header:
            yield line, dict(zip(header, value, strict=False))
        else:
            yield line, Listed((str(n), cell) for n, cell in enumerate(value, start=1))


class Listed(dict[str, Any]):
    """A row that is a list: its names are numbers, from 1."""


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    if len(dict(pairs)) < len(pairs):
        raise ValueError("a key occurs twice")
    return dict(pairs)


def _reason(error: Exception) -> str:
    return printable(getattr(error, "msg", error), 60)


def _read_parquet(path: Path, names: list[str], _: Faults, __: bool) -> Table:
    """Read parquet in batches: the wanted columns alone, or all where one of them is not there."""
    with _faults_of(path):
        # A path would be searched for hive partitions, as in x=1/.
        file = io.BytesIO(_open_bytes(path).read()) if compression_of(path) else path.open("rb")
    with _faults_of(path, "a parquet file"):
        parquet = pq.ParquetFile(file)
        header = parquet.schema_arrow.names
    wanted = {name: [top for top in header if f"{name}.".startswith(f"{top}.")] for name in names}
    read: list[str] | None = [top for tops in wanted.values() for top in tops]
    # The layout of an annotation tool is recognised by more than the wanted columns.
    if not all(wanted.values()) or TOOL_COLUMNS & {name.rpartition(".")[2] for name in header}:
        read = None
    for top in read or []:
        if header.count(top) > 1:
            raise _twice(path, 1, top)

    def rows() -> Iterator[Fields]:
        line = 0
        with file:
            batches = parquet.iter_batches(BATCH, columns=read)
            while True:
                with _faults_of(path, "a parquet file"):
                    batch = next(batches, None)
                    if batch is None:
                        return
                    columns = dict(zip(batch.schema.names, map(_values, batch), strict=True))
                for cells in zip(*columns.values(), strict=True):
                    line += 1
                    yield line, dict(zip(columns, cells, strict=True))

    return Table("parquet", rows())


def _values(column: Any) -> list[Any]:
    values: list[Any] = column.to_pylist(maps_as_pydicts="lossy")
    if pa.types.is_float32(column.type) or pa.types.is_float16(column.type):
        # 0.1 in single precision is 0.1, not 0.10000000149011612.
        return [None if value is None else float(str(np.float32(value))) for value in values]
    return values


def _read_xlsx(path: Path, names: list[str], _: Faults, has_header: bool) -> Table:
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
    with _faults_of(path, "an .xlsx file"):
        book = openpyxl.load_workbook(content, read_only=True, data_only=True)
        visible = [sheet for sheet in book.worksheets if sheet.sheet_state == "visible"]
        sheets = {sheet.title: list(_xlsx_rows(sheet)) for sheet in visible}
        book.close()
    headers = {
        title: [
            str(cell or "") if has_header else str(number) for number, cell in enumerate(row, 1)
        ]
        for title, row in ((title, rows[0][1] if rows else []) for title, rows in sheets.items())
    }
    found = {title: len(set(names) & set(header)) for title, header in headers.items()}
    best = max(found, key=lambda title: found[title])
    complete = [printable(title) for title in found if found[title] == len(set(names))]
    if len(complete) > 1:
        raise DataError(
            f"{printable(path)}: the sheets {', '.join(complete)} all have the columns "
            f"{', '.join(names)}",
            "keep one of them in the file, or save each as a file of its own",
        )
    rows, header = sheets[best], headers[best]
    if not rows:
        raise _empty(path)
    below = (
        (line, dict(zip(header, cells + [None] * (len(header) - len(cells)), strict=False)))
        for line, cells in _without_empty_end(iter(rows[has_header:]))
    )
    sample = [cells for _, cells in rows[:SAMPLE]]
    return Table(f"xlsx, sheet {printable(best)}", below, header, rows[0][0], sample)


def _xlsx_rows(sheet: Any) -> Iterator[Row]:
    """Yield line and cells from the first line on that is not empty."""
    from openpyxl.utils.escape import unescape  # _x000D_ is a carriage return

    sheet.reset_dimensions()  # some writers state the wrong ones
    above = True
    for line, row in enumerate(sheet.iter_rows(), start=1):
        values = (None if cell.data_type == "e" else cell.value for cell in row)
        cells = [(unescape(v) or None) if isinstance(v, str) else v for v in values]
        above = above and all(cell is None for cell in cells)
        if not above:
            yield line, cells


READERS: dict[str, Callable[[Path, list[str], Faults, bool], Table]] = {
    "folder": _read_folder,
    "csv": _read_csv,
    "tsv": _read_csv,
    "txt": _read_txt,
    "jsonl": _read_json,
    "json": _read_json,
    "parquet": _read_parquet,
    "xlsx": _read_xlsx,
}
