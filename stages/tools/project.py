"""The project that a subcommand works in: its folder, its git clone, its DVC experiments."""

import hashlib
import json
import logging
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import typer

from stages.core import paths
from stages.core.artefacts import files_of, sha256_of
from stages.core.errors import HostError, printable
from stages.running.dvc import git

# What a run does not depend on: results, documentation, tests and CI.
UNREAD = (":!metrics", ":!dvc.lock", ":!README.md", ":!tests", ":!.github", ":!.ci")


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
    """Make the folder that holds models/adapter, here or above, the working folder.

    Where there is none it is the project, if any: what is missing is then reported by name. Paths
    that the user gave must be absolute by then.
    """
    if not _enter(lambda folder: (folder / paths.ADAPTER).is_dir()):
        _enter(_is_project)


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


def experiments_of_head() -> set[str]:
    """Return the names of the experiments that the present commit has."""
    commit = git("rev-parse", "HEAD").strip()
    lines = git("for-each-ref", "--format=%(refname)", f"refs/exps/{commit[:2]}/{commit[2:]}/")
    return {line.rpartition("/")[2] for line in lines.splitlines()}


def state_of(overrides: tuple[str, ...]) -> tuple[str, str]:
    """Return the last commit, and 8 hex digits of the overrides and every change since then.

    The user's own data counts too: git does not see it, but DVC takes it along into an experiment.
    """
    changes = git("diff", "HEAD", "--", ".", *UNREAD)
    data = [(path.as_posix(), sha256_of(path)) for path in files_of(paths.RAW)]
    mark = hashlib.sha256(json.dumps([overrides, changes, data]).encode()).hexdigest()[:8]
    return git("rev-parse", "HEAD").strip(), mark


def dvc(*arguments: str) -> int:
    """Run a DVC command, whose output is the user's to see, and return its exit code."""
    with subprocess.Popen([sys.executable, "-m", "dvc", *arguments]) as child:
        try:
            return child.wait()
        except KeyboardInterrupt:
            # The terminal interrupts DVC too, which ends the stage and clears up after itself.
            child.wait()
            print("interrupted: the same command continues from here", file=sys.stderr)
            raise


@contextmanager
def quiet() -> Iterator[None]:
    """Silence DVC's own log lines."""
    logger = logging.getLogger("dvc")
    level = logger.level
    logger.setLevel(logging.CRITICAL)
    try:
        yield
    finally:
        logger.setLevel(level)
