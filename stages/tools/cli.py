"""The command `bert-lora`: the signatures of its subcommands; the work is in modules of their own.

Nothing heavy is imported before a subcommand works, so `--help` and usage errors come at once.
"""

import os
import signal
import sys
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NoReturn

import typer
from typer import Argument, Option

from stages.core import paths
from stages.core.errors import HostError, ParamsError, exit_code_of, printable

if TYPE_CHECKING:  # pydantic and YAML take as long as the rest of the help
    from stages.core.params import ComputeParams, Params

USE, JUDGE, PUBLISH, CHECK = "Use", "Judge", "Publish", "Check"  # the groups of the help
ENDS = {
    0: "done",
    1: "what was asked does not hold (compare, export); with a traceback: a bug",
    2: "params.yaml or the command line",
    3: "the data",
    4: "the model or the adapter",
    5: "the surroundings: disk, network, git, DVC",
    6: "a number that is not finite",
    130: "interrupted",
    143: "terminated",
}  # exit codes of commands and stages
TABLE = "\n".join(["Exit codes", *(f"{code:>3}  {what}" for code, what in ENDS.items())])
OVERRIDES = Option([], "-S", "--set-param", help="A param to change.", metavar="KEY=VALUE")
app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)


def enter_project() -> None:
    """Make the project that the working folder is in the working folder.

    Paths that the user gave must be absolute by then.
    """
    if not _enter(_is_project):
        what = "neither this folder nor one above it holds dvc.yaml and stages/"
        raise HostError(
            f"{printable(Path.cwd(), 200)}: {what}",
            "change into your clone of the project and run again",
        )


def enter_models() -> None:
    """Likewise the folder that holds models/adapter, here or above.

    Where there is none it is the project, if any: what is missing is then reported by name.
    """
    if not _enter(lambda folder: (folder / paths.ADAPTER).is_dir()):
        _enter(_is_project)


def _is_project(folder: Path) -> bool:
    return (folder / paths.PIPELINE).is_file() and (folder / "stages").is_dir()


def _enter(is_wanted: Callable[[Path], bool]) -> bool:
    """Change into the nearest folder from here upwards that is wanted; return whether one is."""
    here = Path.cwd()
    for folder in filter(is_wanted, (here, *here.parents)):
        os.chdir(folder)
        return True
    return False


def file_option(text: str, metavar: str = "FILE") -> Any:
    """Return an option that names a file, made absolute before the working folder changes."""
    return Option(None, help=text, metavar=metavar, resolve_path=True)


def _project() -> "Params":
    """Enter the project, set the environment for its libraries, and return its params."""
    from stages.core.params import load_params
    from stages.running.run import set_environment

    enter_project()
    params = load_params()
    set_environment(params.compute)
    return params


def _found() -> tuple["ComputeParams", str]:
    """Return what to compute on, and the column of texts: of params.yaml, where there is one."""
    from stages.core.params import ComputeParams, load_params
    from stages.running.run import set_environment

    compute, column = ComputeParams(device="auto", precision="auto", threads="auto"), "text"
    if paths.PARAMS.exists():
        params = load_params()
        compute, column = params.compute, params.data.text_column
    set_environment(compute)
    return compute, column


def _version(asked: bool) -> None:
    if asked:
        print(f"bert-lora {version('bert-lora-dvc')}")
        raise typer.Exit


@app.callback(epilog=TABLE)
def bert_lora(
    _: bool = Option(
        False, "--version", callback=_version, is_eager=True, help="Print the version."
    ),
) -> None:
    """LoRA fine-tuning of a BERT-family classifier: what you run by hand.

    Works from any folder of the project. The pipeline itself runs with: dvc repro
    """


@app.command(
    epilog='Example: bert-lora predict "A quiet, lovely film." --with-base', rich_help_panel=USE
)
def predict(
    texts: list[str] = Argument(
        [],
        help="Texts to classify. None, or - alone: standard input, one text a line.",
        metavar="TEXT",
    ),
    file: Path | None = file_option(
        "Read the texts from a file: .csv .tsv .jsonl .json .parquet .xlsx, each also with "
        ".gz .bz2 .xz or .zst."
    ),
    text_column: str | None = Option(
        None,
        help="Column of --file with the text, or a field as in data.text; by default "
        "data.text_column of params.yaml.",
        metavar="NAME",
    ),
    output: Path | None = file_option(
        "Write a .csv, .jsonl or .parquet file, not standard output."
    ),
    with_base: bool = Option(False, "--with-base", help="Show also what the base model answers."),
    every_class: bool = Option(False, "--all", help="Add the probability of every class."),
    as_json: bool = Option(False, "--json", help="Print JSON lines on a terminal too."),
    raw: bool = Option(False, "--raw", help="Give the probabilities before their calibration."),
    model: Path | None = file_option(
        "Use a folder of bert-lora export in the place of the adapter.", "FOLDER"
    ),
) -> None:
    """Classify texts with the trained adapter: a label and its probability for each.

    Prints the answers in the order of the texts and as they come, whatever the size of the input:
    for a person on a terminal, else JSON lines.

    Needs nothing but the folder models/, here or in a folder above, or that of --model.
    """
    enter_models()
    compute, column = _found()
    from stages.tools import predict as work

    asked = (with_base, every_class, as_json, model, raw)
    request = work.Request(tuple(texts), file, text_column, output, *asked)
    work.predict(request, compute, column)


@app.command(epilog="Example: bert-lora serve --port 8080", rich_help_panel=USE)
def serve(
    folder: Path | None = Argument(
        None,
        help="What `bert-lora export` wrote; by default models/adapter.",
        metavar="FOLDER",
        resolve_path=True,
    ),
    host: str = Option("127.0.0.1", help="Address; 0.0.0.0 is every one of this machine."),
    port: int = Option(8000, min=0, max=65_535, help="Port; 0 chooses a free one."),
    no_base: bool = Option(False, "--no-base", help="Do not answer for the base too."),
    allow_host: list[str] = Option(
        [],
        help="Another name that requests may give the server; may be repeated. By default its "
        "own on a loopback address, and any on others.",
        metavar="NAME",
    ),
) -> int:
    """Answer over HTTP: POST /predict and /explain, a page on /.

    Ctrl-C or SIGTERM ends it: what is being computed is answered, what waits gets 503.
    """
    enter_models()
    compute, _ = _found()
    try:
        from stages.tools.serve.run import run
    except ModuleNotFoundError as error:
        what = f"bert-lora serve: {error.name} is not installed"
        fix = "run: pip install -e '.[serve]' -c .github/constraints.txt"
        raise HostError(what, fix) from None
    return run(folder, compute, host, port, allow_host, not no_base)


@app.command(
    epilog="Example: bert-lora compare main workspace --tolerance 0.01", rich_help_panel=JUDGE
)
def compare(
    first: str = Argument("HEAD", metavar="REV_A", help="The earlier one."),
    second: str = Argument("workspace", metavar="REV_B", help="The one that is checked."),
    of: Literal["adapter", "base"] = Option("adapter", help="Whose predictions."),
    fail_under: float | None = Option(
        None, min=0, max=1, metavar="SHARE", help="Exit code 1 if REV_B's accuracy is below this."
    ),
    tolerance: float | None = Option(
        None, min=0, max=1, metavar="SHARE", help="Exit code 1 if accuracy fell by more than this."
    ),
    as_json: bool = Option(False, "--json", help="Print one JSON object."),
    as_markdown: bool = Option(False, "--md", help="Print Markdown for a pull request."),
) -> None:
    """Compare two revisions on the same test rows: difference, interval, p-value, verdict.

    A revision is a commit, a tag, a branch, an experiment, or "workspace". Accuracies are shares.
    """
    if as_json and as_markdown:
        raise ParamsError("bert-lora compare: both --json and --md", "give one of them")
    _project()
    from stages.tools import compare as work

    form: Literal["table", "json", "md"] = "json" if as_json else "md" if as_markdown else "table"
    raise typer.Exit(work.compare((first, second), of, form, fail_under, tolerance))


@app.command(epilog="Example: bert-lora seeds 5 -S train.epochs=3", rich_help_panel=JUDGE)
def seeds(
    count: int = Argument(min=1, max=100, metavar="N", help="How many seeds."),
    overrides: list[str] = OVERRIDES,
    first: int = Option(1, min=0, max=2**31, help="The first seed."),
) -> None:
    """Run the same settings over N seeds, and report mean, spread and what limits the conclusion.

    Each seed is a DVC experiment; a second call continues where the first one stopped.
    """
    params = _project()
    from stages.tools import seeds as work

    work.seeds(params, count, tuple(overrides), first)


@app.command(epilog="Example: bert-lora curve --seeds 3", rich_help_panel=JUDGE)
def curve(
    sizes: int = Option(5, min=2, max=12, help="Parts at most: all rows, half of them, a quarter."),
    seeds: int = Option(3, min=1, max=20, help="Trainings of each part."),
) -> None:
    """Train on growing parts of the rows: whether more labels would help, and how much.

    TF-IDF, base and adapter on the test rows; finished trainings are kept in
    metrics/records/curve.csv, and the same command goes on where it was stopped.
    """
    params = _project()
    from stages.tools import curve as work

    work.curve(params, sizes, seeds)


@app.command("search", epilog="Example: bert-lora search 20 --minutes 30", rich_help_panel=JUDGE)
def search(
    trials: int = Argument(20, min=1, max=100_000, metavar="N", help="How many trials in all."),
    minutes: float | None = Option(None, min=0.1, help="When to stop, the finals included."),
    workers: int = Option(1, min=1, max=256, help="Processes that train."),
    overrides: list[str] = OVERRIDES,
    storage: str = Option(
        "", metavar="URL", help="Optuna database; default: SQLite in models/.search."
    ),
    top: int = Option(2, min=1, max=20, help="Settings that are trained again at the end."),
    seeds: int = Option(3, min=1, max=20, help="Further seeds that each of them gets."),
    apply_best: bool = Option(False, "--apply", help="Write the best settings into params.yaml."),
) -> None:
    """Search params.yaml for better settings, chosen on validation; test rows are not read.

    Trials are kept: the same command goes on where it was stopped, however that was.
    """
    from stages.running.run import set_environment
    from stages.tools.search_space import OWN_STORAGE, Options, read_settings

    if storage and "://" not in storage:
        storage = f"sqlite:///{Path(storage).resolve()}"
    where = storage or OWN_STORAGE
    options = Options(trials, minutes, workers, overrides, where, top, seeds)
    enter_project()
    settings = read_settings(options)
    set_environment(settings.params.compute)
    # It imports torch, which reads the number of threads.
    from stages.tools.search import search as run

    run(options, settings, apply_best)


@app.command(
    epilog="Example: bert-lora export models/onnx --format onnx --int8", rich_help_panel=PUBLISH
)
def export(
    folder: Path = Argument(help="Folder to make.", metavar="FOLDER", resolve_path=True),
    form: Literal["merged", "onnx"] = Option(
        "merged",
        "--format",
        help="merged: a Transformers folder, LoRA merged into the weights. "
        "onnx: one file for ONNX Runtime, without torch.",
    ),
    int8: bool = Option(False, "--int8", help="8-bit weights; with --format onnx."),
    tolerance: float | None = Option(
        None,
        help="Largest difference of a logit from the adapter's; beyond it nothing is written "
        "and the exit code is 1. By default 0.001, and no limit with --int8.",
        metavar="X",
        min=0,
    ),
    force: bool = Option(False, "--force", help="Replace an export that is there."),
) -> None:
    """Export the trained classifier as a folder that other tools take.

    Before it is put in place it is checked against the adapter, on the test rows, in a fresh
    process; export.json in the folder has the figures, and so has metrics/records/exports.json.
    """
    if int8 and form != "onnx":
        raise ParamsError("bert-lora export: --int8 without --format onnx", "add --format onnx")
    params = _project()
    from stages.tools import export as work

    work.export(folder, work.Wanted(form, int8, tolerance), params, force)


@app.command(epilog="Example: bert-lora verify && git push", rich_help_panel=CHECK)
def verify() -> None:
    """Hash every artefact again, check that all belong together, and what stops the next run.

    Exit code 0 only if all of it holds; each fault comes with the command that repairs it.
    """
    params = _project()
    from stages.tools import verify as work

    work.verify(params)


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
        if code == 128 + signal.SIGINT:  # typer made a code of it
            raise KeyboardInterrupt
        if code:
            sys.exit(code)

    sys.exit(exit_code_of(run))


if __name__ == "__main__":
    main()
