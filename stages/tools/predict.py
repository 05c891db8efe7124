"""`bert-lora predict`: classify texts with the trained adapter, and with the base if wanted.

It needs models/ alone. In a project, params.yaml says what to compute on.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from functools import partial
from itertools import chain, islice
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from stages.core import paths
from stages.core.artefacts import require, sha256_of
from stages.core.errors import ParamsError, printable
from stages.core.params import ComputeParams, load_params
from stages.running.environment import set_environment
from stages.tools.predict_input import text_blocks
from stages.tools.predict_output import (
    OUTPUT_ENDINGS,
    Row,
    json_line,
    print_table,
    write_file,
)
from stages.tools.predict_resume import Part, chunk_sizes
from stages.tools.project import enter_models, file_option

if TYPE_CHECKING:  # heavy libraries are imported once the texts have been checked
    from stages.serving.export_predictor import ExportPredictor
    from stages.serving.predictor import Predictor

EXAMPLE = 'Example: bert-lora predict "A quiet, lovely film." --with-base'
AUTO = ComputeParams(device="auto", precision="auto", threads="auto")
DIGITS = 9  # of a probability
Chunk = tuple[list[Row], list[str]]  # rows, and the labels

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


def made_by(
    compute: ComputeParams, with_base: bool, every_class: bool, model: Path | None
) -> dict[str, Any]:
    """Return what the answers depend on besides the texts."""
    # Either has the hashes of the files that it belongs to, which are checked on loading.
    manifest = model / paths.EXPORT_RECORD if model else paths.ADAPTER_MANIFEST
    return {
        "model": sha256_of(manifest) if manifest.is_file() else None,
        "--with-base": sha256_of(require(paths.HEAD_WEIGHTS)) if with_base else False,
        "--all": every_class,
        "compute.device": compute.device,
        "compute.precision": compute.precision,
    }


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


def answers(
    texts: Iterator[str],
    compute: ComputeParams,
    with_base: bool,
    every_class: bool,
    model: Path | None = None,
    answered: int = 0,
) -> Iterator[Chunk]:
    """Yield the rows for the texts in chunks, and the labels: text, label, probability.

    With base also base_label, ...; with `every_class`, p_<class> (and base_p_<class>) follow.
    Probabilities are in [0, 1].

    Args:
        texts: what is still to be answered, in memory a chunk at a time.
        compute: device, precision and threads.
        with_base: whether the base answers too.
        every_class: whether to give the probability of every class.
        model: a folder of `bert-lora export` that answers in the place of the adapter.
        answered: how many rows are answered already; a whole number of chunks.

    Raises:
        HostError: if a model is missing.
        ModelError: if a file is damaged, or the adapter does not belong to the base.
    """
    predictor = _open(compute, with_base, model)
    cut = count = place = 0
    for size in chunk_sizes():
        place += size
        if place <= answered:
            continue
        chunk = list(islice(texts, size))
        if not chunk:
            break
        cut += predictor.count_cut(chunk)
        count += len(chunk)
        tables = {"": predictor.probabilities(chunk)}
        if with_base:
            tables["base_"] = predictor.base_probabilities(chunk)
        scores = {who: table.round(DIGITS).tolist() for who, table in tables.items()}
        yield _rows(chunk, predictor.labels, scores, every_class), predictor.labels
    _note_cut(predictor, cut, count)


def _open(compute: ComputeParams, with_base: bool, model: Path | None) -> Any:
    """Return the predictor of the adapter, or that of an exported folder, which is quicker."""
    if model:
        from stages.serving.export_predictor import ExportPredictor

        return ExportPredictor.load(model, compute)
    from stages.serving.predictor import Predictor

    return Predictor.load(compute, with_base)


def _rows(
    texts: list[str], labels: list[str], scores: dict[str, list[list[float]]], every_class: bool
) -> list[Row]:
    """Return a row for each text; `scores` holds each model's (rows, classes) by its prefix."""
    rows: list[dict[str, Any]] = [{"text": text} for text in texts]
    for number, row in enumerate(rows):
        for who, table in scores.items():
            best = max(table[number])
            row |= {f"{who}label": labels[table[number].index(best)], f"{who}probability": best}
        for who, table in scores.items() if every_class else ():
            row |= {f"{who}p_{label}": table[number][at] for at, label in enumerate(labels)}
    return rows


def _note_cut(predictor: Predictor | ExportPredictor, cut: int, count: int) -> None:
    """Report on standard error how many texts are cut."""
    if cut:
        what = f"{cut:,} of {count:,} texts have more than {predictor.tokens_read} tokens"
        print(f"note: {what}; the rest of them is not read", file=sys.stderr)
