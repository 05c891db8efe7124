"""The work of `bert-lora predict`: from a stream of texts to labels and probabilities.

Texts and answers are in memory a chunk at a time, whatever the size of the input.
"""

import json
import re
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from itertools import chain, islice
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
from stages.sources.locate import ENDINGS, format_of
from stages.tools.predictor import Predictor, fault_of, open_predictor

SMALLEST, LARGEST = 16, 1024  # rows answered together: the first come at once, then full speed
DIGITS = 9  # of a probability
OUTPUT_ENDINGS = (".csv", ".jsonl", ".parquet")
# Valid inside JSON, but a terminal obeys them and some readers of lines break at them: C1 controls,
# Unicode's line ends, and marks that turn the direction of writing.
NOT_IN_JSON = re.compile("[\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069]")

Row = dict[str, Any]


@dataclass(frozen=True)
class Request:
    """What the user asked for."""

    texts: tuple[str, ...]  # none, or "-" alone, is standard input
    file: Path | None = None  # a table to read in their place
    text_column: str | None = None  # its column with the text
    output: Path | None = None  # the file to write; None for standard output
    with_base: bool = False  # whether the base answers too
    every_class: bool = False  # whether to give the probability of every class
    as_json: bool = False  # whether to print JSON lines on a terminal too
    model: Path | None = None  # a folder of `bert-lora export` in the place of the adapter
    raw: bool = False  # whether to give the probabilities before the temperature


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
    elif sys.stdout.isatty() and not request.as_json:
        for row in chain.from_iterable(chunks):
            print_row(row)
    else:
        for chunk in chunks:
            sys.stdout.buffer.write("".join(map(json_line, chunk)).encode())  # UTF-8 anywhere
            sys.stdout.flush()  # here, so that a reader that left, as `head` does, ends it quietly


def check(request: Request) -> None:
    """Check that the options fit together."""
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
        for _ in _texts_of_file(request.file, text_column, say=True):
            pass
        yield from _texts_of_file(request.file, text_column)
    elif request.texts in ((), ("-",)):
        yield from _lines()
    else:
        checked = [(n, fault_of(text)) for n, text in enumerate(request.texts, start=1)]
        if faults := [
            (f"text {number}: {fault[0]}", fault[1]) for number, fault in checked if fault
        ]:
            raise DataError.from_faults(faults)
        yield from request.texts


def _texts_of_file(file: Path, column: str, say: bool = False) -> Iterator[str]:
    """Yield the texts of a file up to its first fault; `say` what was understood of the file."""
    if not file.is_file():
        raise DataError(f"{printable(file, 200)}: no such file", "check the name after --file")
    if format_of(file) in (None, "txt"):  # a .txt has labels, or is plain lines
        endings = ENDINGS.replace(" .txt", "")
        raise DataError(
            f"{printable(file, 200)}: no table by its ending",
            f"use one of {endings}; for plain lines: bert-lora predict < FILE",
        )
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
    faults.check()
    if say:
        print(f"read: {printable(file, 200)} ({table.understood})", file=sys.stderr)


def _lines() -> Iterator[str]:
    """Yield the lines of standard input as they come; the first that is no text ends it."""
    number = 0
    for number, line in enumerate(sys.stdin.buffer, start=1):
        # What is not UTF-8 becomes a surrogate, which fault_of finds.
        text = line.decode("utf-8-sig" if number == 1 else "utf-8", "surrogateescape")
        text = text.removesuffix("\n").removesuffix("\r")
        if fault := fault_of(text):
            raise DataError(f"standard input: line {number}: {fault[0]}", fault[1])
        yield text
    if not number:
        raise DataError("standard input: no text", "give a text a line, or as an argument")


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
        cut += sum(own.cut(chunk))
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


def print_row(row: Row) -> None:
    """Print a text for a person, made safe and cut, and below it a line for each column.

    Classes come likeliest first, the base's answers beside the adapter's, with 3 decimals.
    """
    shares = sorted((name for name in row if name.startswith("p_")), key=lambda name: -row[name])
    prefixes = ["", *(["base_"] if "base_label" in row else [])]
    table = Table(box=None, pad_edge=False, show_header=len(prefixes) > 1)
    table.add_column("")
    for name in ("adapter", "base")[: len(prefixes)]:
        table.add_column(name, justify="right", overflow="fold")
    for name in ("label", "probability", *shares):
        values = (row[prefix + name] for prefix in prefixes)
        table.add_row(Text(printable(name)), *(Text(_shown(value)) for value in values))
    Console().print(Text(_shown(row["text"])), table, sep="\n")


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
