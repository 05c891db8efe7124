"""`bert-lora predict`: classify texts with the trained adapter, and with the base if wanted.

It needs models/ alone. In a project, params.yaml says what to compute on.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from functools import partial
from itertools import chain
from pathlib import Path
from typing import Annotated, Any

import typer

from stages.core import paths
from stages.core.artefacts import require
from stages.core.errors import ParamsError, printable
from stages.core.params import ComputeParams, load_params
from stages.running.run import set_environment
from stages.tools.predict_answers import Chunk, answers, made_by
from stages.tools.predict_input import text_blocks
from stages.tools.predict_output import (
    OUTPUT_ENDINGS,
    json_line,
    print_table,
    write_file,
)
from stages.tools.predict_resume import Part
from stages.tools.project import enter_models, file_option

EXAMPLE = 'Example: bert-lora predict "A quiet, lovely film." --with-base'
AUTO = ComputeParams(device="auto", precision="auto", threads="auto")

Texts = Annotated[
    list[str] | None,
    typer.Argument(
        help="Texts to classify. None, or - alone: standard input, one text a line.",
        metavar="TEXT",
    ),
]
File = Annotated[
    Path | None,
    file_option(
        "Read the texts from a file, or files by a pattern in quotes: .csv .tsv .jsonl .json "
        ".parquet .xlsx, each also with .gz or .zst."
    ),
]
TextColumn = Annotated[
    str | None,
    typer.Option(
        help="Column of --file with the text, or a field as in data.text; by default "
        "data.text_column of params.yaml.",
        metavar="NAME",
    ),
]
Output = Annotated[
    Path | None,
    file_option(
        "Write a .csv, .jsonl or .parquet file, not standard output. Answers are kept in "
        "FILE.part until all are there: the same command goes on where it was stopped."
    ),
]
WithBase = Annotated[
    bool, typer.Option("--with-base", help="Show also what the base model answers.")
]
EveryClass = Annotated[bool, typer.Option("--all", help="Add the probability of every class.")]
Model = Annotated[
    Path | None,
    file_option("Use a folder of bert-lora export in the place of the adapter.", "FOLDER"),
]
AsJson = Annotated[
    bool, typer.Option("--json", help="Print JSON lines on a terminal too, not a table.")
]


def command(
    texts: Texts = None,
    file: File = None,
    text_column: TextColumn = None,
    output: Output = None,
    with_base: WithBase = False,
    every_class: EveryClass = False,
    as_json: AsJson = False,
    model: Model = None,
) -> None:
    """Classify texts with the trained adapter: a label and its probability for each.

    Prints a table on a terminal, and JSON lines into a pipe or a file, in the order of the texts
    and as they are answered, whatever the size of the input.

    Needs nothing but the folder models/, here or in a folder above, or that of --model.
    """
    arguments = tuple(texts or ())
    check_options(arguments, file, text_column, output, as_json)
    if model and with_base:
        what = "bert-lora predict: both --model and --with-base"
        raise ParamsError(what, "leave out one: an exported folder holds no base")
    enter_models()
    compute, default_column = settings()
    folders = (paths.BASE_MODEL, paths.ADAPTER, *([paths.HEAD] if with_base else []))
    for folder in () if model else folders:
        require(folder)  # before anyone types texts
    blocks = text_blocks(arguments, file, text_column or default_column)
    first = next(blocks, [])  # checked before a model is loaded
    stream = chain.from_iterable(chain([first], blocks))
    set_environment(compute)
    ask = partial(
        answers, compute=compute, with_base=with_base, every_class=every_class, model=model
    )
    if output:
        save(stream, output, ask, made_by(compute, with_base, every_class, model))
    else:
        show(ask(texts=stream), as_json)


def show(chunks: Iterator[Chunk], as_json: bool) -> None:
    """Print the rows as they come: a table on a terminal, otherwise JSON lines."""
    header = True
    for rows, labels in chunks:
        if as_json or not sys.stdout.isatty():
            sys.stdout.buffer.write("".join(map(json_line, rows)).encode())  # UTF-8 in any locale
        else:
            print_table(rows, labels, header)
        header = False
        sys.stdout.flush()  # here, so that a reader that left, as `head` does, ends this quietly


def save(
    texts: Iterator[str], output: Path, ask: Callable[..., Iterator[Chunk]], by: dict[str, Any]
) -> None:
    """Write the rows to a file; what a run that was stopped has answered is taken over."""
    part, done = Part(output, by), False
    texts = part.take_up(texts)
    try:
        if (text := next(texts, None)) is not None:
            for rows, _ in ask(texts=chain([text], texts), answered=part.rows):
                part.add(rows)
        write_file(part.answers(), output)
        done = True
        print(f"{printable(output, 200)}: {part.rows:,} rows", file=sys.stderr)
    finally:
        part.close(done)


def check_options(
    texts: tuple[str, ...],
    file: Path | None,
    text_column: str | None,
    output: Path | None,
    as_json: bool,
) -> None:
    """Check that the options fit together.

    Raises:
        ParamsError: with every contradiction.
    """
    faults = []
    if texts and file:
        faults.append(("both texts and --file", "give one of them"))
    if "-" in texts and len(texts) > 1:
        faults.append(("- together with other texts", "give - alone to read standard input"))
    if text_column and not file:
        faults.append(("--text-column without --file", "add --file"))
    if output and as_json:
        faults.append(("both --json and --output", "use --output with a name in .jsonl"))
    if output and output.suffix not in OUTPUT_ENDINGS:
        what = f"--output: {printable(output, 200)}: unknown ending"
        faults.append((what, f"use one of {' '.join(OUTPUT_ENDINGS)}"))
    if output and output == file:
        faults.append(("--output would overwrite --file", "choose another name"))
    if output and (output.is_dir() or not output.parent.is_dir()):
        what = f"--output: {printable(output, 200)}: is a folder, or is in none that exists"
        faults.append((what, "name a file in a folder that exists"))
    if faults:
        raise ParamsError.from_faults([(f"bert-lora predict: {what}", fix) for what, fix in faults])


def settings() -> tuple[ComputeParams, str]:
    """Return what to compute on, and the text column: those of params.yaml where it exists."""
    if not paths.PARAMS.exists():
        return AUTO, "text"
    params = load_params()
    return params.compute, params.data.text_column
