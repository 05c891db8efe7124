"""The command `bert-lora`: the options of each subcommand, whose work stands in its own module.

Nothing heavy is imported before a subcommand works, so `--help` and usage errors come at once.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Annotated, NoReturn

import typer

from stages.core.errors import HostError, ParamsError, printable
from stages.running.exit_codes import exit_code_of
from stages.tools import compare_revisions as compare
from stages.tools import doctor, seeds, verify
from stages.tools.benchmark import run as benchmark
from stages.tools.predict import OUTPUT_ENDINGS, Request, predict

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)


@app.callback()
def bert_lora() -> None:
    """LoRA fine-tuning of a BERT-family classifier: what a person runs by hand.

    Works from any folder of the project. The pipeline itself runs with: dvc repro
    """


def _file(text: str) -> typer.models.OptionInfo:
    """Return an option that names a file, resolved before the working directory changes."""
    option: typer.models.OptionInfo = typer.Option(help=text, metavar="FILE", resolve_path=True)
    return option


@app.command("predict")
def predict_command(
    texts: Annotated[
        list[str] | None,
        typer.Argument(
            help="Texts to classify. None, or - alone: standard input, one text a line.",
            metavar="TEXT",
        ),
    ] = None,
    file: Annotated[
        Path | None, _file("Read the texts from a .csv, .tsv, .jsonl or .parquet file.")
    ] = None,
    text_column: Annotated[
        str | None,
        typer.Option(
            help="Column of --file with the text; else data.text_column of params.yaml.",
            metavar="NAME",
        ),
    ] = None,
    output: Annotated[
        Path | None, _file("Write a .csv, .jsonl or .parquet file, not standard output.")
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
    request = Request(
        tuple(texts or ()), file, text_column, output, with_base, every_class, as_json
    )
    check_request(request)
    enter_project()
    predict(request)


def check_request(request: Request) -> None:
    """Check that the options of `predict` fit together.

    Raises:
        ParamsError: with every contradiction.
    """
    file, output = request.file, request.output
    faults = []
    if request.texts and file:
        faults.append(("both texts and --file", "give one of them"))
    if "-" in request.texts and len(request.texts) > 1:
        faults.append(("- beside other texts", "give - alone to read standard input"))
    if request.text_column and not file:
        faults.append(("--text-column without --file", "add --file"))
    if output and request.as_json:
        faults.append(("both --json and --output", "use --output with a name in .jsonl"))
    if output and output.suffix not in OUTPUT_ENDINGS:
        what = f"--output: {printable(output, 200)}: unknown ending"
        faults.append((what, f"use one of {' '.join(OUTPUT_ENDINGS)}"))
    if output and output == file:
        faults.append(("--output would overwrite --file", "choose another name"))
    if output and (output.is_dir() or not output.parent.is_dir()):
        what = f"--output: {printable(output, 200)}: is a folder, or lies in none"
        faults.append((what, "name a file in a folder that exists"))
    if faults:
        raise ParamsError.from_faults([(f"bert-lora predict: {what}", fix) for what, fix in faults])


@app.command("compare")
def compare_command(
    first: Annotated[str, typer.Argument(metavar="REV_A")] = "HEAD",
    second: Annotated[str, typer.Argument(metavar="REV_B")] = "workspace",
    of: Annotated[
        str, typer.Option(help="Whose predictions: adapter or base.", metavar="MODEL")
    ] = "adapter",
    fail_under: Annotated[
        float | None,
        typer.Option(
            min=0, max=1, metavar="SHARE", help="Exit code 1 if REV_B's accuracy is below this."
        ),
    ] = None,
    tolerance: Annotated[
        float | None,
        typer.Option(
            min=0, max=1, metavar="SHARE", help="Exit code 1 if accuracy fell by more than this."
        ),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
    as_markdown: Annotated[
        bool, typer.Option("--md", help="Print Markdown for a pull request.")
    ] = False,
) -> None:
    """Compare two revisions on the same test rows: difference, interval, p-value, verdict.

    A revision is a commit, a tag, a branch, an experiment, or "workspace". Accuracies are shares.
    """
    if of not in compare.FILES:
        raise ParamsError(f"bert-lora compare: --of: {printable(of)}", "use adapter or base")
    if as_json and as_markdown:
        raise ParamsError("bert-lora compare: both --json and --md", "give one of them")
    enter_project()
    request = compare.Request((first, second), of, fail_under, tolerance, as_json, as_markdown)
    raise typer.Exit(compare.compare(request))


@app.command("seeds")
def seeds_command(
    count: Annotated[int, typer.Argument(min=1, max=100, metavar="N", help="How many seeds.")],
    overrides: Annotated[
        list[str] | None,
        typer.Option("-S", "--set-param", help="A param to change.", metavar="KEY=VALUE"),
    ] = None,
    first: Annotated[int, typer.Option(min=0, max=2**31, help="The first seed.")] = 1,
) -> None:
    """Run the same settings over N seeds, and report mean, spread and what limits the conclusion.

    Each seed is a DVC experiment; a second call goes on where the first one stopped.
    """
    changes = tuple(overrides or ())
    for change in changes:
        key = change.partition("=")[0].rpartition(":")[2].strip("+~ ")  # as Hydra reads it
        if "=" not in change.strip("=") or key in ("", "seed"):
            what = f"bert-lora seeds: -S {printable(change)}"
            raise ParamsError(what, "give KEY=VALUE, any param of params.yaml but seed")
    enter_project()
    seeds.seeds(seeds.Request(count, changes, first))


@app.command("benchmark")
def benchmark_command(
    steps: Annotated[int, typer.Option(min=1, max=10_000, help="Steps that are timed.")] = 50,
    repeats: Annotated[
        int, typer.Option(min=0, max=100, help="Turns of each contender; 0 keeps the speeds.")
    ] = 3,
    accuracy: Annotated[
        bool, typer.Option("--accuracy", help="Train through too, once a seed: takes long.")
    ] = False,
    seeds_of: Annotated[
        int, typer.Option("--seeds", min=1, max=100, help="Seeds of --accuracy.")
    ] = 3,
    adapters: Annotated[
        Path | None,
        typer.Option(help="Python of an environment with the AdapterHub library (adapters)."),
    ] = None,
) -> None:
    """Time training and scoring beside a tutorial's loop, a tuned one, and full fine-tuning.

    All on the prepared rows and the same base model; takes a few minutes.
    """
    enter_project()
    benchmark.benchmark(benchmark.Request(steps, repeats, accuracy, adapters, seeds_of))


@app.command("verify")
def verify_command() -> None:
    """Hash every artefact anew, in workspace and cache, and check that all belong together.

    Exit code 0 only if all of it holds; each fault comes with the command that mends it.
    """
    enter_project()
    verify.verify()


@app.command("doctor")
def doctor_command() -> None:
    """Look for what stops a run: stale locks, leftovers, lack of space, other versions.

    Exit code 5 if something must be mended first.
    """
    enter_project()
    doctor.doctor()


def enter_project() -> None:
    """Make the project that the working directory lies in the working directory.

    Paths that the user gave must be absolute by then.

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
            raise ParamsError(f"{command}: {message}", f"see {command} --help") from None
        if code:
            sys.exit(code)

    sys.exit(exit_code_of(run))


if __name__ == "__main__":
    main()
