"""Find the project, or its models, from any folder inside: every subcommand does so first."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import typer

from stages.core import paths
from stages.core.errors import HostError, printable


def enter_project() -> None:
    """Make the project that the working folder is in the working folder.

    Paths that the user gave must be absolute by then.

    Raises:
        HostError: if no folder from here upwards holds dvc.yaml and stages/.
    """
    if not _enter(_is_project):
        what = "neither this folder nor one above it holds dvc.yaml and stages/"
        raise HostError(
            f"{printable(Path.cwd(), 200)}: {what}",
            "change into your clone of the project and run again",
        )


def enter_models() -> None:
    """Make the folder that holds models/adapter, here or above, the working folder.

    Where there is none it is the project, if any: what is missing is then reported by name. Paths
    that the user gave must be absolute by then.
    """
    if not _enter(lambda folder: (folder / paths.ADAPTER).is_dir()):
        _enter(_is_project)


def enter_served(folder: Path | None) -> Path | None:
    """Make the folder that holds models/ the working folder.

    Args:
        folder: absolute; a project, its models/adapter, or what `bert-lora export` wrote.

    Returns:
        The export; None where models/ is meant.
    """
    if folder is not None:
        for root in (folder, *folder.parents[1:2]):
            adapter = root / paths.ADAPTER
            if folder in (root, adapter) and (root / paths.ADAPTER_MANIFEST).is_file():
                os.chdir(root)
                return None
    enter_models()
    return folder


def _is_project(folder: Path) -> bool:
    return (folder / paths.PIPELINE).is_file() and (folder / "stages").is_dir()


def _enter(is_wanted: Callable[[Path], bool]) -> bool:
    """Change into the nearest folder from here upwards that is wanted; return whether one is."""
    here = Path.cwd()
    for folder in (here, *here.parents):
        if is_wanted(folder):
            os.chdir(folder)
            return True
    return False


def file_option(text: str, metavar: str = "FILE") -> Any:
    """Return an option that names a file, made absolute before the working folder changes."""
    return typer.Option(help=text, metavar=metavar, resolve_path=True)
