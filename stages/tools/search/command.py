"""`bert-lora search`: its options."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer
from pydantic import ValidationError

from stages.core import paths
from stages.core.errors import ParamsError, printable
from stages.core.params import Params, load_params
from stages.core.params_errors import parse_yaml
from stages.running.run import set_environment
from stages.tools.project import enter_project, file_option
from stages.tools.search.space import check_space, read_space, unknown, with_values

EXAMPLE = "Example: bert-lora search 20 --minutes 30"


def command(
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
        typer.Option(metavar="URL", help="Where trials are kept: an Optuna storage or a journal."),
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
    if storage and "://" not in storage:
        storage = str(Path(storage).resolve())
    enter_project()
    params, entries, where = read_settings(tuple(overrides or ()), space)
    checked = check_space(entries, params, where)
    set_environment(params.compute)
    # Heavy libraries are imported once the options have been checked.
    from stages.tools.search.apply import apply
    from stages.tools.search.run import search
    from stages.tools.search.wanted import Search

    best = search(
        Search(
            params, entries, checked, trials, at_most, minutes, workers, storage, study, top, seeds
        )
    )
    if apply_best and best:
        apply(best)
        print(f"{paths.PARAMS} has these values now; run: dvc repro")
    elif apply_best:
        print(f"{paths.PARAMS} stays as it is")


def read_settings(
    overrides: tuple[str, ...], file: Path | None
) -> tuple[Params, dict[str, Any], str]:
    """Return the settings, the space's entries, and what an error calls their place.

    `-S search.PATH={...}` changes an entry of the space.

    Raises:
        ParamsError: if an override or a file is wrong.
    """
    params = load_params()
    entries = dict(read_space(file) if file else params.search)
    where = f"{printable(file)}: space" if file else f"{paths.PARAMS}: search"
    values = {}
    for override in overrides:
        key, _, text = override.partition("=")
        if not key or "=" not in override:
            what = f"bert-lora search: -S {printable(override)}"
            raise ParamsError(what, "give KEY=VALUE, any param of params.yaml")
        value = parse_yaml(f"value: {text}", Path(f"-S {printable(override)}"))["value"]
        if key.startswith("search."):
            entries[key.removeprefix("search.")] = value
        else:
            wrong = unknown(key, params)
            if wrong:
                what = f"bert-lora search: -S {printable(override)}: {wrong[0]}"
                raise ParamsError(what, wrong[1])
            values[key] = value
    try:
        params = with_values(params, values)
    except ValidationError as error:
        reason = printable(error.errors()[0]["msg"], 200)
        what = f"bert-lora search: -S {', '.join(map(printable, values))}: {reason}"
        raise ParamsError(what, "see the comments in params.yaml") from None
    if params.train.epochs == 0:
        raise ParamsError("train.epochs: 0 trains nothing", "set it to 1 or more")
    return params, entries, where
