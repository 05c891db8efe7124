"""What git says of the clone that the project is in, and which files an experiment takes along."""

import os
import re
import shlex
import subprocess
from contextlib import suppress
from pathlib import Path
from typing import Any

from stages.core.errors import HostError, printable
from stages.running.dvc import dvc_files, outs_of

EXPERIMENT = re.compile(r"(.+)/\.dvc/tmp/exps/")  # where DVC runs those apart from the workspace


def git(*arguments: str) -> str:
    """Return what a git command prints.

    Raises:
        HostError: if it fails.
    """
    command = ["git", "--no-optional-locks", *arguments]
    try:
        done = subprocess.run(command, capture_output=True, text=True, errors="replace", timeout=60)
    except (OSError, subprocess.SubprocessError) as error:
        what = f"git {arguments[0]}: {printable(error, 200)}"
        raise HostError(what, "see that git is installed and answers: git status") from None
    if done.returncode:
        said = done.stderr.strip()
        owner = re.search(r"git config --global --add safe\.directory \S.*", said)
        fix = f"run: {owner[0]}" if owner else "work in a git clone of the project, with a commit"
        why = printable(said.partition("\n")[0] or f"exit code {done.returncode}", 200)
        raise HostError(f"git {arguments[0]}: {why}", fix)
    return done.stdout


def has_git() -> bool:
    """Return whether the working folder is in a git clone."""
    here = Path.cwd()
    return any((folder / ".git").exists() for folder in (here, *here.parents))


def git_state() -> dict[str, Any]:
    """Return the revision and whether files differ from it; None for both without git."""
    with suppress(HostError):
        changes = git("status", "--porcelain", "--untracked-files=no")
        revision = None
        with suppress(HostError):  # nothing is committed yet
            revision = git("rev-parse", "HEAD").strip()
        return {"revision": revision, "changed": changes != ""}
    return {"revision": None, "changed": None}


def outer_project() -> Path | None:
    """Return the project whose experiment runs in the working folder, None in a workspace."""
    place = EXPERIMENT.match(f"{Path.cwd().as_posix()}/")
    return Path(place[1]) if place else None


def left_behind(files: list[Path], folder: Path | None = None) -> tuple[list[Path], str]:
    """Return which files an experiment apart would lack, and the commands that take them along.

    DVC copies what git tracks or has staged, and fetches what .dvc files among that name. A path
    that is absolute is found from anywhere.

    Args:
        files: the files.
        folder: what holds them all, if it may be added as one.

    Raises:
        HostError: if this is no git clone.
    """
    tracked = set(git("ls-files", "-z").split("\0"))
    folders = {folder for file in files for folder in Path(os.path.normpath(file)).parents}
    near = {found for folder in folders for found in folder.glob("*.dvc") if found.is_file()}
    owners = {out: file for file in {*dvc_files(), *near} for out, _ in outs_of(file)}
    missing, unknown, added = [], set(), set()
    for file in files:
        inside = Path(os.path.normpath(file))
        owner = next((owners[at] for at in (inside, *inside.parents) if at in owners), None)
        known = inside.as_posix() if owner is None else owner.as_posix()
        if file.is_absolute() or known in tracked:
            continue
        missing.append(file)
        above = inside.parents[:-1]
        if inside.parts[0] == ".." or any((folder / ".git").exists() for folder in above):
            return missing, "give its absolute path, or copy it into data/raw"
        if owner is None:
            unknown.add(inside if folder is None else Path(os.path.normpath(folder)))
        else:
            added.add(owner)
    if not missing:
        return [], ""
    added |= {Path(f"{path}.dvc") for path in unknown}
    ignores = {path.parent / ".gitignore" for path in added}
    adds = [*sorted(added), *sorted(path for path in ignores if unknown or path.exists())]
    commands = [["dvc", "add", *map(str, sorted(unknown))]] * bool(unknown)
    commands.append(["git", "add", *map(str, adds)])
    return missing, f"run: {' && '.join(map(shlex.join, commands))}"
