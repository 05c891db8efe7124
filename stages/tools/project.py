"""Find the project from any folder inside it, as every subcommand does first."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import typer

from stages.core.errors import HostError, printable


def enter_project() -> None:
    """Make the project that the working folder is in the working folder.

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
        "change into your clone of the project and run again",
    )


def file_option(text: str, metavar: str = "FILE") -> Any:
    """Return an option that names a file, made absolute before the working folder changes."""
    return typer.Option(help=text, metavar=metavar, resolve_path=True)
