"""The command `bert-lora`: options and help of each subcommand; its work stands in its own module.

Nothing heavy is imported before a subcommand runs, so `--help` and usage errors come at once.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Annotated, NoReturn

import typer

from stages.shared.errors import HostError, ParamsError, printable
from stages.shared.run import exit_code_of

app = typer.Typer(
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"max_content_width": 100},
)


@app.callback()
def bert_lora() -> None:
    """LoRA fine-tuning of a BERT-family classifier: what a person runs by hand.

    Works from any folder of the project. The pipeline itself runs with: dvc repro
    """


@app.command()
def predict(
    texts: Annotated[
        list[str] | None,
        typer.Argument(
            help="Texts to classify. None, or - alone: standard input, one text a line."
        ),
    ] = None,
    file: Annotated[
        Path | None,
        typer.Option(
            help="Read the texts from a .csv, .tsv, .jsonl or .parquet file.", resolve_path=True
        ),
    ] = None,
    text_column: Annotated[
        str | None,
        typer.Option(help="Column of --file with the text.", show_default="data.text_column"),
    ] = None,
    output: Annotated[
        Path | None,
        typer.Option(
            help="Write a .csv, .jsonl or .parquet file instead of standard output.",
            resolve_path=True,
        ),
    ] = None,
    with_base: Annotated[
        bool, typer.Option("--with-base", help="Show what the base model says beside it.")
    ] = False,
    every_class: Annotated[
        bool, typer.Option("--all", help="Add the probability of every class.")
    ] = False,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print JSON lines on a terminal too, not a table.")
    ] = False,
) -> None:
    """Classify texts with the trained adapter: a label and its probability for each.

    Prints a table on a terminal, and JSON lines into a pipe or a file.
    """
    enter_project()
    from stages.tools import predict as tool

    request = tool.Request(
        tuple(texts or ()), file, text_column, output, with_base, every_class, as_json
    )
    tool.predict(request)


def enter_project() -> None:
    """Make the project that the working directory lies in the working directory.

    Paths that the user gave must be absolute by then (`resolve_path` sees to it).

    Raises:
        HostError: if no folder from here upwards holds dvc.yaml and stages/.
    """
    here = Path.cwd()
    for folder in (here, *here.parents):
        if (folder / "dvc.yaml").is_file() and (folder / "stages").is_dir():
            os.chdir(folder)
            return
    raise HostError(
        f"{printable(here, 200)}: neither this folder nor one above it holds dvc.yaml and stages/",
        "cd into your clone of the project and run again",
    )


def main(arguments: list[str] | None = None) -> NoReturn:
    """Run the command on `arguments` (by default the process's) and end with its exit code."""

    def run() -> None:
        try:
            code = app(args=arguments, prog_name="bert-lora", standalone_mode=False)
        except typer.TyperException as error:  # a wrong option, value or subcommand
            context = getattr(error, "ctx", None)
            command = context.command_path if context else "bert-lora"
            message = printable(error.format_message().rstrip("."), 200)
            raise ParamsError(f"{command}: {message}", f"see: {command} --help") from None
        if code:
            sys.exit(code)

    sys.exit(exit_code_of(run))


if __name__ == "__main__":
    main()
