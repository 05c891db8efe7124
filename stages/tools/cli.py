"""The command `bert-lora`: its subcommands, each with its options in a module of its own.

A subcommand imports its work once its options and params.yaml have been checked, so that `--help`
and usage errors come at once.
"""

from __future__ import annotations

import sys
from typing import Annotated, Literal, NoReturn

import typer

from stages.core.errors import ParamsError, printable
from stages.core.params import load_params
from stages.running.run import exit_code_of
from stages.tools import export, predict, push, serve
from stages.tools.project import enter_project
from stages.tools.search import command as search

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)


@app.callback()
def bert_lora() -> None:
    """LoRA fine-tuning of a BERT-family classifier: what you run by hand.

    Works from any folder of the project. The pipeline itself runs with: dvc repro
    """


app.command("predict", epilog=predict.EXAMPLE)(predict.command)
app.command("serve", epilog=serve.EXAMPLE)(serve.command)


@app.command(epilog="Example: bert-lora compare main workspace --tolerance 0.01")
def compare(
    first: Annotated[str, typer.Argument(metavar="REV_A", help="The earlier one.")] = "HEAD",
    second: Annotated[
        str, typer.Argument(metavar="REV_B", help="The one that is checked.")
    ] = "workspace",
    of: Annotated[Literal["adapter", "base"], typer.Option(help="Whose predictions.")] = "adapter",
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
    if as_json and as_markdown:
        raise ParamsError("bert-lora compare: both --json and --md", "give one of them")
    enter_project()
    seed = load_params().seed
    from stages.tools import compare as work

    form: Literal["table", "json", "md"] = "json" if as_json else "md" if as_markdown else "table"
    raise typer.Exit(work.compare((first, second), seed, of, form, fail_under, tolerance))


@app.command(epilog="Example: bert-lora seeds 5 -S train.epochs=3")
def seeds(
    count: Annotated[int, typer.Argument(min=1, max=100, metavar="N", help="How many seeds.")],
    overrides: Annotated[
        list[str] | None,
        typer.Option("-S", "--set-param", help="A param to change.", metavar="KEY=VALUE"),
    ] = None,
    first: Annotated[int, typer.Option(min=0, max=2**31, help="The first seed.")] = 1,
) -> None:
    """Run the same settings over N seeds, and report mean, spread and what limits the conclusion.

    Each seed is a DVC experiment; a second call continues where the first one stopped.
    """
    enter_project()
    load_params()
    from stages.tools import seeds as work

    work.seeds(count, tuple(overrides or ()), first)


app.command("search", epilog=search.EXAMPLE)(search.command)
app.command("export", epilog=export.EXAMPLE)(export.command)
app.command("push", epilog=push.EXAMPLE)(push.command)


@app.command(epilog="Example: bert-lora verify && git push")
def verify() -> None:
    """Hash every artefact again, check that all belong together, and what stops the next run.

    Exit code 0 only if all of it holds; each fault comes with the command that repairs it.
    """
    enter_project()
    params = load_params()
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
        if code:
            sys.exit(code)

    sys.exit(exit_code_of(run))


if __name__ == "__main__":
    main()
