"""How the user's own model folder differs from the copy of it in models/base."""

from __future__ import annotations

from pathlib import Path

from stages.core import paths
from stages.core.artefacts import sha256_of
from stages.core.errors import ModelError, ParamsError, printable
from stages.sources.locate import is_local_model, locate_model

REFETCH = "run `dvc repro -f fetch_base`"


def model_change(source: str) -> str | None:
    """Return how a local model folder differs from models/base, None if it does not.

    DVC does not watch a folder that `model.source` names, so its files are compared by sha256. A
    catalogue name or a Hub id is pinned and cannot change.
    """
    base = paths.BASE_MODEL
    if not base.is_dir():
        return None  # nothing has been copied yet
    name = printable(Path(source))
    try:
        if not is_local_model(source):
            return None
        now = locate_model(source, Path()).files
    except ParamsError:
        return f"{name} no longer exists; {base} is a copy of it"
    except ModelError as error:
        why = error.faults[0][0]
        return f"{name} has changed since {base} was copied from it, and cannot be used now: {why}"
    copied = {path.name: path for path in base.iterdir()}
    changed = [
        file
        for file in sorted({*now, *copied})
        if file not in now or file not in copied or not _same(now[file], copied[file])
    ]
    if not changed:
        return None
    files = printable(", ".join(changed))
    return f"{name} has changed since {base} was copied from it ({files}): {REFETCH}"


def _same(one: Path, other: Path) -> bool:
    if one.stat().st_size != other.stat().st_size:
        return False
    return one.samefile(other) or sha256_of(one) == sha256_of(other)
