"""The work of `bert-lora predict`: from a stream of texts to labels and probabilities.

Texts and answers are in memory a chunk at a time, whatever the size of the input.
"""

import glob
import json
import re
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from itertools import chain, count, islice
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.csv as pa_csv
import pyarrow.parquet as pq
from rich.console import Console
from rich.markup import escape
from rich.table import Table
from rich.text import Text

from stages.core import paths
from stages.core.artefacts import replacing, require
from stages.core.errors import DataError, ParamsError, printable
from stages.core.params import ComputeParams
from stages.rows.labels import NoValueError, text_of
from stages.rows.reading import Faults, open_table
from stages.sources.locate import ENDINGS, format_of, is_pattern
from stages.tools.predictor import Predictor, fault_of, open_predictor

LINES = 16  # of standard input that are checked together
NOT_UTF8 = "not UTF-8"  # what a surrogate means in an argument or a line
SMALLEST, LARGEST = 16, 1024  # rows answered together: the first come at once, then full speed
DIGITS = 9  # of a probability
OUTPUT_ENDINGS = (".csv", ".jsonl", ".parquet")
TABLE_WIDTH = 120  # characters; on a wider terminal the numbers would be far from their text
TEXT_WIDTH = 24  # of a text beside its numbers, at least
# Valid inside JSON, but a terminal obeys them and some readers of lines break at them: C1 controls,
# Unicode's line ends, and marks that turn the direction of writing.
NOT_IN_JSON = re.compile("[\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069]")

Row = dict[str, Any]


@dataclass(frozen=True)
class Request:
    """What the user asked for.

    Attributes:
        texts: to be classified; none of them, or "-" alone, is standard input.
        file: a table to read in their place, or a pattern of several, or None.
        text_column: its column with the text.
        output: the file to write, None for standard output.
        with_base: whether the base answers too.
        every_class: whether to give the probability of every class.
        as_json: whether to print JSON lines on a terminal too.
        model: a folder of `bert-lora export` that answers in the place of the adapter.
        raw: whether to give the probabilities before the temperature.
    """

    texts: tuple[str, ...]
    file: Path | None = None
    text_column: str | None = None
    output: Path | None = None
    with_base: bool = False
    every_class: bool = False
    as_json: bool = False
    model: Path | None = None
    raw: bool = False


def predict(request: Request, compute: ComputeParams, text_column: str) -> None:
    """Answer the texts, and print the answers or write them to a file.

    Args:
        request: what the user asked for.
        compute: device, precision and threads.
        text_column: where the request names none.

    Raises:
        ParamsError: if the options contradict each other.
        DataError: if a text cannot be classified.
        HostError: if a model is missing.
        ModelError: if a file of a model is damaged, or the adapter does not belong to the base.
    """
    check(request)
    folders = (paths.BASE_MODEL, paths.ADAPTER, *([paths.HEAD] if request.with_base else []))
    for folder in () if request.model else folders:
        require(folder)  # before anyone types texts
    rest = read_texts(request, request.text_column or text_column)
    texts = chain([next(rest)], rest)  # checked before a model is loaded
    name = printable(request.model or paths.ADAPTER, 200)
    with Console(stderr=True).status(f"loading {escape(name)} ..."):  # on a terminal alone
        predictors = {"": open_predictor(request.model, compute)}
        if request.with_base:
            predictors["base_"] = open_predictor(compute=compute, base=True)
    chunks = answers(texts, predictors, request.every_class, request.raw)
    if request.output:
        rows = write_file(chunks, request.output)
        print(f"{printable(request.output, 200)}: {rows:,} rows", file=sys.stderr)
    elif request.as_json or not sys.stdout.isatty():
        for chunk in chunks:
            sys.stdout.buffer.write("".join(map(json_line, chunk)).encode())  # UTF-8 anywhere
            sys.stdout.flush()  # here, so that a reader that left, as `head` does, ends it quietly
    else:
        header = True
        for chunk in chunks:
            print_rows(chunk, predictors[""].labels, header)
            header = False


def check(request: Request) -> None:
    """Check that the options fit together.

    Raises:
        ParamsError: with every contradiction.
    """
    texts, file, output = request.texts, request.file, request.output
    more = len(texts) > 1
    rules = [
        (texts and file, "both texts and --file", "give one of them"),
        ("-" in texts and more, "- together with other texts", "give - alone to read lines"),
        (request.text_column and not file, "--text-column without --file", "add --file"),
        (request.model and request.with_base, "both --model and --with-base", "leave out one"),
    ]
    if output:
        shown, endings = f"--output: {printable(output, 200)}", " ".join(OUTPUT_ENDINGS)
        other, nowhere = output.suffix not in OUTPUT_ENDINGS, not output.parent.is_dir()
        rules += [
            (request.as_json, "both --json and --output", "use --output with a name in .jsonl"),
            (other, f"{shown}: unknown ending", f"use one of {endings}"),
            (output == file, "--output would overwrite --file", "choose another name"),
            (output.is_dir(), f"{shown}: is a folder", "choose another name"),
            (nowhere, f"{shown}: is in no folder that exists", "make the folder first"),
        ]
    if faults := [(f"bert-lora predict: {what}", fix) for broken, what, fix in rules if broken]:
        raise ParamsError.from_faults(faults)


def read_texts(request: Request, text_column: str) -> Iterator[str]:
    """Yield the texts of the file, standard input or the arguments, verbatim.

    Every text of a file is checked before the first is given, so a file is read twice.

    Raises:
        DataError: naming every text that cannot be classified, by its line or number.
    """
    if request.file:
        files = _files(request.file)
        for path in files:
            for _ in _texts_of_file(path, text_column, say=True):
                pass
        for path in files:
            yield from _texts_of_file(path, text_column)
    elif request.texts in ((), ("-",)):
        yield from _lines()
    else:
        checked = [(n, fault_of(text, NOT_UTF8)) for n, text in enumerate(request.texts, start=1)]
        if faults := [
            (f"text {number}: {fault[0]}", fault[1]) for number, fault in checked if fault
        ]:
            raise DataError.from_faults(faults)
        yield from request.texts


def _files(file: Path) -> list[Path]:
    files = [file]
    if not file.exists() and is_pattern(str(file)):
        names = glob.glob(str(file), recursive=True)  # noqa: PTH207  # the pattern is absolute
        files = [path for path in sorted(map(Path, names)) if path.is_file()]
    if not files or not files[0].is_file():
        raise DataError(f"{printable(file, 200)}: no such file", "check the name after --file")
    for path in files:
        if format_of(path) in (None, "txt"):  # a .txt has labels, or is plain lines
            endings = ENDINGS.replace(" .txt", "")
            raise DataError(
                f"{printable(path, 200)}: no table by its ending",
                f"use one of {endings}; for plain lines: bert-lora predict < FILE",
            )
    return files


def _texts_of_file(file: Path, column: str, say: bool = False) -> Iterator[str]:
    """Yield the texts of a file up to its first fault; `say` what was understood of the file."""
    faults = Faults(file)
    table = open_table(file, [column], faults)
    for line, (value,) in table.rows:
        try:
            text = text_of(value) or ""
            fault = fault_of(text)
        except NoValueError as error:
            fault = (error.what, error.fix)
        if fault:
            faults.add(line, *fault)
        elif not faults.lines:
            yield text
    table.check()  # before the faults: without the column, every text is empty
    faults.check()
    if say:
        print(f"read: {printable(file, 200)} ({table.understood})", file=sys.stderr)


def _lines() -> Iterator[str]:
    """Yield the lines of standard input, a few at once: its writer may be slow."""
    faults = Faults(Path("standard input"))
    for start in count(step=LINES):
        lines = list(islice(sys.stdin.buffer, LINES)) or ([] if start else [b""])
        texts = []
        for number, line in enumerate(lines, start=start + 1):
            # What is not UTF-8 becomes a surrogate, which fault_of finds.
            text = line.decode("utf-8-sig" if number == 1 else "utf-8", "surrogateescape")
            texts.append(text.removesuffix("\n").removesuffix("\r"))
            if fault := fault_of(texts[-1], NOT_UTF8):
                faults.add(number, *fault)
        faults.check()
        yield from texts
        if not lines:
            return


def answers(
    texts: Iterator[str], predictors: dict[str, Predictor], every_class: bool, raw: bool = False
) -> Iterator[list[Row]]:
    """Yield the rows for the texts in chunks: text, label, probability; and those of the base.

    Args:
        texts: in memory a chunk at a time.
        predictors: what answers, by the prefix of its columns: "" and maybe "base_".
        every_class: whether columns p_<class> follow with the probability of every class.
        raw: whether the probabilities are those before the temperature.
    """
    own = predictors[""]
    cut = given = 0
    size = SMALLEST
    while chunk := list(islice(texts, size)):
        size = min(2 * size, LARGEST)
        given += len(chunk)
        cut += sum(length > own.max_length for length in own.lengths(chunk))
        rows: list[Row] = [{"text": text} for text in chunk]
        tables = {
            who: predictor.shares(predictor.logits(chunk), raw).round(DIGITS).tolist()
            for who, predictor in predictors.items()
        }
        for who, table in tables.items():
            for row, shares in zip(rows, table, strict=True):
                best = max(shares)
                label = own.labels[shares.index(best)]
                row |= {f"{who}label": label, f"{who}probability": best}
        for who, table in tables.items() if every_class else ():
            for row, shares in zip(rows, table, strict=True):
                names = [f"{who}p_{label}" for label in own.labels]
                row |= dict(zip(names, shares, strict=True))
        yield rows
    if cut:
        what = f"{cut:,} of {given:,} texts have more than {own.max_length} tokens"
        print(f"note: {what}; the rest of them is not read", file=sys.stderr)


def json_line(row: Row) -> str:
    """Return the row as one line of JSON in Unicode, safe for a terminal."""
    content = json.dumps(row, ensure_ascii=False, allow_nan=False)
    return NOT_IN_JSON.sub(lambda match: f"\\u{ord(match[0]):04x}", content) + "\n"


def print_rows(rows: list[Row], labels: list[str], header: bool = True) -> None:
    """Print the rows for a person, texts made safe and cut, 3 decimals.

    A line each, or where the other columns leave too little room for the text, below one another.

    Args:
        rows: some of the rows.
        labels: the classes, so that the columns of all tables of a run are equally wide.
        header: whether to print the names of the columns.
    """
    console = Console()
    width = min(console.width, TABLE_WIDTH)
    longest = max(len(printable(label)) for label in labels)
    columns = {
        name: max(len(printable(name)), longest if isinstance(value, str) else 0)
        for name, value in rows[0].items()
        if name != "text"
    }
    if sum(columns.values()) + 2 * len(columns) > width - TEXT_WIDTH:
        for row in rows:
            print_below(row, console)
        return
    table = Table(box=None, width=width, pad_edge=False, show_header=header)
    table.add_column("text", ratio=1, no_wrap=True, overflow="ellipsis")
    for name, least in columns.items():
        justify: Any = "left" if isinstance(rows[0][name], str) else "right"
        table.add_column(Text(printable(name)), justify=justify, min_width=least, no_wrap=True)
    for row in rows:  # Text, not str: in a text, [bold] is no markup
        table.add_row(*(Text(_shown(value)) for value in row.values()))
    console.print(table)


def print_below(row: Row, console: Console) -> None:
    """Print the text, and below it a line for each column, likeliest classes first."""
    shares = sorted((name for name in row if name.startswith("p_")), key=lambda name: -row[name])
    with_base = "base_label" in row
    table = Table(box=None, pad_edge=False, show_header=with_base)
    for name in ("", "adapter", *(["base"] if with_base else [])):
        table.add_column(name, justify="right" if name else "left", overflow="fold")
    for name in ("label", "probability", *shares):
        both = (row[name], *([row[f"base_{name}"]] if with_base else []))
        table.add_row(Text(printable(name)), *(Text(_shown(value)) for value in both))
    console.print(Text(_shown(row["text"])), table, sep="\n")


def _shown(value: Any) -> str:
    return f"{value:.3f}" if isinstance(value, float) else printable(value, 120)


def write_file(chunks: Iterator[list[Row]], path: Path) -> int:
    """Write the rows in the format that the file's ending names, completely or not at all.

    Returns:
        How many rows there were.
    """
    first = next(chunks)
    schema = pa.Table.from_pylist(first).schema
    written = 0
    with replacing(path) as temporary, ExitStack() as stack:
        if path.suffix == ".jsonl":
            lines = stack.enter_context(temporary.open("w", encoding="utf-8", newline="\n"))
        else:  # a csv with every string in quotes, which a lone carriage return needs
            writer = pa_csv.CSVWriter if path.suffix == ".csv" else pq.ParquetWriter
            table = stack.enter_context(writer(temporary, schema))
        for rows in chain([first], chunks):
            written += len(rows)
            if path.suffix == ".jsonl":
                lines.writelines(map(json_line, rows))
            else:
                table.write_table(pa.Table.from_pylist(rows, schema))
    return written
