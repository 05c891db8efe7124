"""The command `bert-lora`: its subcommands, each with its options in a module of its own.

A subcommand imports its work once its options and params.yaml have been checked, so that `--help`
and usage errors come at once.
"""

from __future__ import annotations

import sys
from typing import NoReturn

import typer

from stages.core.errors import ParamsError, printable
from stages.core.params import load_params
from stages.running.exit_codes import exit_code_of
from stages.tools import compare_revisions, export, predict, push, seeds, serve
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
app.command("compare", epilog=compare_revisions.EXAMPLE)(compare_revisions.command)
app.command("seeds", epilog=seeds.EXAMPLE)(seeds.command)
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
