"""What DVC recorded of the last run, in dvc.lock and in .dvc files. No DVC in here."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil

from stages.core import paths
from stages.core.errors import HostError
from stages.core.pipeline import outputs_of, read_yaml


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
    """Return every output that dvc.lock and the .dvc files under data name.

    Raises:
        HostError: if there is no dvc.lock yet, or one of the files cannot be read.
    """
    if not paths.LOCK.exists():
        raise HostError(f"{paths.LOCK}: not found: nothing has run yet", "run: dvc repro")
    records = []
    for stage, entry in read_yaml(paths.LOCK).get("stages", {}).items():
        cached = outputs_of(stage)
        for out in entry.get("outs", []):
            records.append(_recorded(out, Path(), stage, cached.get(Path(out["path"]), True)))
    for file in sorted(paths.RAW.parent.rglob("*.dvc")):
        outs = read_yaml(file).get("outs", [])
        records += [_recorded(out, file.parent, str(file), out.get("cache", True)) for out in outs]
    return records


def _recorded(out: dict[str, Any], folder: Path, owner: str, cached: bool) -> Recorded:
    return Recorded(folder / out["path"], owner, str(out["md5"]), int(out["size"]), cached)


def bytes_recorded(stage: str) -> int:
    """Return the size of a stage's cached outputs when it last ran, 0 if it never did."""
    if not paths.LOCK.exists():
        return 0
    return sum(out.size for out in recorded_outputs() if out.owner == stage and out.cached)


def bytes_written(stage: str) -> int:
    """Return the size of a stage's cached outputs as they are in the workspace."""
    cached = [path for path, taken in outputs_of(stage).items() if taken]
    return sum(file.stat().st_size for path in cached for file in files_of(path))


def files_of(path: Path) -> Iterator[Path]:
    """Yield a file itself, or every file of a folder in order; nothing if there is none."""
    for file in sorted(path.rglob("*")) if path.is_dir() else [path]:
        if file.is_file():
            yield file


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
