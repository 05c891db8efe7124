"""`bert-lora predict`: classify texts with the trained adapter, and with the base if wanted.

It needs models/ alone. In a project, params.yaml says what to compute on.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from stages.core import paths
from stages.core.artefacts import require
from stages.core.errors import ParamsError, printable
from stages.core.params import ComputeParams, load_params
from stages.running.environment import set_environment
from stages.tools.predict_input import read_texts
from stages.tools.predict_output import (
    OUTPUT_ENDINGS,
    Row,
    json_line,
    print_table,
    write_file,
)
from stages.tools.project import enter_models, file_option

if TYPE_CHECKING:  # heavy libraries are imported once the texts have been checked
    from stages.serving.export_predictor import ExportPredictor
    from stages.serving.predictor import Predictor

EXAMPLE = 'Example: bert-lora predict "A quiet, lovely film." --with-base'
AUTO = ComputeParams(device="auto", precision="auto", threads="auto")
DIGITS = 9  # of a probability


Texts = Annotated[
    list[str] | None,
    typer.Argument(
        help="Texts to classify. None, or - alone: standard input, one text a line.",
        metavar="TEXT",
    ),
]
File = Annotated[
    Path | None, file_option("Read the texts from a .csv, .tsv, .jsonl or .parquet file.")
]
TextColumn = Annotated[
    str | None,
    typer.Option(
        help="Column of --file with the text; by default data.text_column of params.yaml.",
        metavar="NAME",
    ),
]
Output = Annotated[
    Path | None, file_option("Write a .csv, .jsonl or .parquet file, not standard output.")
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

    Prints a table on a terminal, and JSON lines into a pipe or a file.

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
    checked = read_texts(arguments, file, text_column or default_column)
    set_environment(compute)
    show(classify(checked, compute, with_base, every_class, model), output, as_json)


def show(rows: list[Row], output: Path | None, as_json: bool) -> None:
    """Write the rows to a file, or print them: a table on a terminal, otherwise JSON lines."""
    if output:
        write_file(rows, output)
        print(f"{printable(output, 200)}: {len(rows):,} rows", file=sys.stderr)
    elif as_json or not sys.stdout.isatty():
        sys.stdout.buffer.write("".join(map(json_line, rows)).encode())  # UTF-8 in any locale
    else:
        print_table(rows)
    sys.stdout.flush()  # here, so that a reader that left, as `head` does, ends this quietly


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


def classify(
    texts: list[str],
    compute: ComputeParams,
    with_base: bool,
    every_class: bool,
    model: Path | None = None,
) -> list[Row]:
    """Return a row for each text: text, label, probability; with base also base_label, ....

    With `every_class`, p_<class> (and base_p_<class>) follow. Probabilities are in [0, 1]. A
    folder of `bert-lora export` as `model` answers in the place of the adapter.

    Raises:
        HostError: if a model is missing.
        ModelError: if a file is damaged, or the adapter does not belong to the base.
    """
    if model:
        from stages.serving.export_predictor import ExportPredictor

        quick = ExportPredictor.load(model, compute)
        _note_cut(quick, texts)
        return _tables(texts, quick.labels, {"": quick.probabilities(texts)}, every_class)
    from stages.serving.predictor import Predictor

    predictor = Predictor.load(compute, with_base)
    _note_cut(predictor, texts)
    tables = {"": predictor.probabilities(texts)}
    if with_base:
        tables["base_"] = predictor.base_probabilities(texts)
    return _tables(texts, predictor.labels, tables, every_class)


def _tables(
    texts: list[str], labels: list[str], tables: dict[str, Any], every_class: bool
) -> list[Row]:
    """Return a row for each text; `tables` holds each model's (rows, classes) by its prefix."""
    scores = {who: table.round(DIGITS).tolist() for who, table in tables.items()}
    return _rows(texts, labels, scores, every_class)


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


def _note_cut(predictor: Predictor | ExportPredictor, texts: list[str]) -> None:
    """Report on standard error how many texts are cut."""
    if cut := predictor.count_cut(texts):
        what = f"{cut:,} of {len(texts):,} texts have more than {predictor.tokens_read} tokens"
        print(f"note: {what}; the rest of them is not read", file=sys.stderr)
