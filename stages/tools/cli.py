"""The command `bert-lora`: its subcommands, each with its options in a module of its own.

Nothing heavy is imported before a subcommand works, so `--help` and usage errors come at once.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated, NoReturn

import typer

from stages.core.errors import ParamsError, printable
from stages.running.environment import set_environment
from stages.running.exit_codes import exit_code_of
from stages.tools import compare_revisions, doctor, export, predict, push, seeds, serve, verify
from stages.tools.benchmark import command as benchmark
from stages.tools.project import enter_project, file_option

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)


@app.callback()
def bert_lora() -> None:
    """LoRA fine-tuning of a BERT-family classifier: what you run by hand.

    Works from any folder of the project. The pipeline itself runs with: dvc repro
    """


app.command("predict", epilog=predict.EXAMPLE)(predict.command)
app.command("serve", epilog=serve.EXAMPLE)(serve.command)
app.command("compare", epilog=compare_revisions.EXAMPLE)(compare_revisions.command)
app.command("seeds", epilog=seeds.EXAMPLE)(seeds.command)


@app.command("search", epilog="Example: bert-lora search 20 --minutes 30")
def search(
    trials: Annotated[
        int, typer.Argument(min=1, max=100_000, metavar="N", help="How many trials in all.")
    ] = 20,
    at_most: Annotated[
        int | None,
        typer.Option("--trials", min=0, help="How many of them this call may add; default: all."),
    ] = None,
    minutes: Annotated[
        float | None, typer.Option(min=0.1, help="When to stop, the finals included.")
    ] = None,
    workers: Annotated[int, typer.Option(min=1, max=256, help="Processes that train.")] = 1,
    overrides: Annotated[
        list[str] | None,
        typer.Option("-S", "--set-param", help="A param to change.", metavar="KEY=VALUE"),
    ] = None,
    space: Annotated[
        Path | None, file_option("A YAML file with the space, instead of params.yaml: search.")
    ] = None,
    storage: Annotated[
        str | None,
        typer.Option(metavar="URL", help="Optuna database; default: SQLite in models/.search."),
    ] = None,
    study: Annotated[
        str | None, typer.Option(metavar="NAME", help="The study's name; default: by its inputs.")
    ] = None,
    top: Annotated[
        int, typer.Option(min=1, max=20, help="Settings that are trained again at the end.")
    ] = 2,
    seeds: Annotated[
        int, typer.Option(min=1, max=20, help="Further seeds that each of them gets.")
    ] = 3,
    apply_best: Annotated[
        bool, typer.Option("--apply", help="Write the best settings into params.yaml.")
    ] = False,
) -> None:
    """Search params.yaml for better settings, chosen on validation; test rows are not read.

    Trials are kept: the same command goes on where it was stopped, however that was.
    """
    from stages.tools.search_space import OWN_STORAGE, Options, read_settings

    if storage and "://" not in storage:
        storage = f"sqlite:///{Path(storage).resolve()}"
    options = Options(
        trials=trials,
        at_most=at_most,
        minutes=minutes,
        workers=workers,
        overrides=overrides or [],
        space=None if space is None else str(space),
        storage=storage or OWN_STORAGE,
        study=study,
        top=top,
        seeds=seeds,
    )
    enter_project()
    settings = read_settings(options)
    set_environment(settings.params.compute)
    # It imports torch, which reads the number of threads.
    from stages.tools.search import search as run

    run(options, settings, apply_best)


app.command("benchmark", epilog=benchmark.EXAMPLE)(benchmark.command)
app.command("export", epilog=export.EXAMPLE)(export.command)
app.command("push", epilog=push.EXAMPLE)(push.command)
app.command("verify", epilog=verify.EXAMPLE)(verify.command)
app.command("doctor", epilog=doctor.EXAMPLE)(doctor.command)


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
