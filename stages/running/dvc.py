"""What git and DVC say of the clone, and whether DVC's cache has room for the next run.

DVC 3.67 prints an error when its cache cannot take an output, but records the run as done, and a
later checkout may remove the only copy. So a stage checks before it works, and again when it
knows what it wrote.
"""

import hashlib
import json
import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil

from stages.core import paths
from stages.core.artefacts import files_of, outputs, read_yaml
from stages.core.errors import HostError, printable

SPARE = 20_000_000  # bytes: what else a run writes, from locks to logs


@dataclass(frozen=True)
class Recorded:
    """An output as the last run left it.

    Attributes:
        path: the file or folder.
        owner: the stage that wrote it, or the .dvc file of what `dvc add` took.
        md5: of the file's bytes; for a folder that of its listing, followed by ".dir".
        size: in bytes.
        cached: whether it is in DVC's cache; otherwise git keeps it.
    """

    path: Path
    owner: str
    md5: str
    size: int
    cached: bool


def recorded_outputs() -> list[Recorded]:
    """Return every output that dvc.lock and the .dvc files of data name by an md5.

    What else a .dvc file may hold, such as a version of a cloud or a hash of DVC 2, is DVC's.

    Raises:
        HostError: if there is no dvc.lock yet, or it cannot be read.
    """
    if not paths.LOCK.exists():
        raise HostError(f"{paths.LOCK}: not found: nothing has run yet", "run: dvc repro")
    records, written = [], outputs()
    for stage, entry in (read_yaml(paths.LOCK).get("stages") or {}).items():
        for out in entry.get("outs", []):
            path = Path(out["path"])
            cached = written.get(stage, {}).get(path, True)
            records.append(Recorded(path, stage, out["md5"], out.get("size", 0), cached))
    for file in dvc_files():
        for path, out in outs_of(file):
            if isinstance(out.get("md5"), str) and out.get("hash") == "md5":
                kept, size = out.get("cache") is not False, out.get("size", 0)
                records.append(Recorded(path, file.as_posix(), out["md5"], size, kept))
    return records


def dvc_files() -> list[Path]:
    """Return the .dvc files below data, but for those of another repository there."""
    folder = paths.RAW.parent
    found = sorted(file for file in folder.rglob("*.dvc") if file.is_file())
    inner = [each.parent for each in folder.rglob(".dvc") if each.is_dir()]
    return [file for file in found if not any(file.is_relative_to(other) for other in inner)]


def outs_of(file: Path) -> Iterator[tuple[Path, dict[str, Any]]]:
    """Yield path and entry of each output that a .dvc file names; nothing of what it cannot read.

    DVC is more lenient than any list of fields here, and says itself what is wrong with one.
    """
    with suppress(Exception):  # nothing in such a file may stop a stage
        content = read_yaml(file)
        for out in content.get("outs") or []:
            folder = file.parent / str(content.get("wdir") or ".")
            if isinstance(out, dict) and isinstance(out.get("path"), str):
                yield Path(os.path.normpath(folder / out["path"])), out


def object_of(cache: Path, md5: str) -> Path:
    """Return where DVC's cache keeps the object of this hash."""
    return cache / "files" / "md5" / md5[:2] / md5[2:]


def lock_holders() -> list[int]:
    """Return the numbers of the living processes that hold a lock of DVC.

    Raises:
        HostError: if the file is damaged: DVC stops at it.
    """
    if not paths.RWLOCK.exists():
        return []
    try:
        # {"data": {"write": {"pid": 1}, "read": [{"pid": 2}]}}
        entries = json.loads(paths.RWLOCK.read_text(encoding="utf-8")).values()
        values = [value for entry in entries for value in entry.values()]
        held = [h for value in values for h in (value if isinstance(value, list) else [value])]
        return sorted(n for n in {int(each["pid"]) for each in held} if psutil.pid_exists(n))
    except (ValueError, AttributeError, TypeError, KeyError, OSError, OverflowError):
        what = f"{paths.RWLOCK}: damaged by a run that was killed, DVC stops at it"
        raise HostError(what, f"rm {paths.RWLOCK}") from None  # guard: damaged lock -> return []


def md5_of(path: Path) -> str | None:
    """Return the hex md5 of a file's bytes, None if there is no such file."""
    if not path.is_file():
        return None
    with path.open("rb") as file:
        return hashlib.file_digest(file, lambda: hashlib.md5(usedforsecurity=False)).hexdigest()


def cache_folder() -> Path:
    """Return the folder of DVC's cache, wherever the user's configuration puts it.

    Raises:
        HostError: if this is no DVC repository, or its configuration is damaged.
    """
    # DVC takes the place of sys.stdout when it is imported, which is for a stage under DVC alone.
    from dvc.config import Config, ConfigError

    home = Path(".dvc").absolute()
    if not home.is_dir():
        raise HostError(".dvc: not found", "work in a git clone of the project")
    try:
        folder = Config(dvc_dir=str(home))["cache"].get("dir")
    except ConfigError as error:
        what = f".dvc/config: {printable(error, 200)}"
        raise HostError(what, "correct it: git diff .dvc/config shows what changed") from None
    return Path(folder) if folder else home / "cache"


@contextmanager
def enough_room(stage: str) -> Iterator[None]:
    """Check before the block for the size last written, and after it for the size written now.

    Does nothing where DVC does not run the stage: then nothing goes into its cache.

    Raises:
        HostError: if workspace or cache lack the room.
    """
    if "DVC_STAGE" not in os.environ:
        yield
        return
    cache = cache_folder()
    stages = read_yaml(paths.LOCK).get("stages", {}) if paths.LOCK.exists() else {}
    before = sum(out.get("size", 0) for out in stages.get(stage, {}).get("outs", []))
    require_room(before, Path(), cache)
    yield
    taken = [path for path, cached in outputs().get(stage, {}).items() if cached]
    now = sum(file.stat().st_size for path in taken for file in files_of(path))
    require_room(now, cache)


def require_room(size: int, *folders: Path) -> None:
    """Check that each folder's file system has room for so many bytes, and some to spare.

    Raises:
        HostError: naming the first folder that lacks it.
    """
    for folder in folders:
        while not folder.exists():
            folder = folder.parent
        free = shutil.disk_usage(folder).free
        if free < size + SPARE:  # guard: free space
            raise HostError(
                f"{printable(folder)}: {free / 1e6:,.0f} MB free, "
                f"{(size + SPARE) / 1e6:,.0f} MB are needed",
                "free some space there (dvc gc --workspace drops what no longer counts), "
                "and run again",
            )


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
