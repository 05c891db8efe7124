"""What dvc.yaml says that each stage writes, and what dvc.lock recorded of it. No DVC in here."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from stages.core import paths
from stages.core.errors import HostError, printable

LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)  # DVC's own reader takes 20 times as long
OUTPUTS = ("outs", "metrics", "plots")
HERE = Path(__file__).parents[2]  # the repository that this code is in


@dataclass(frozen=True)
class Recorded:
    """An output as the last run left it.

    Attributes:
        path: the file or folder.
        owner: the stage that wrote it, or the .dvc file of what `dvc add` took.
        md5: of the file's bytes; for a folder that of its listing, with ".dir" behind it.
        size: in bytes.
        cached: whether DVC's cache holds it; else git does.
    """

    path: Path
    owner: str
    md5: str
    size: int
    cached: bool


def outputs_of(stage: str) -> dict[Path, bool]:
    """Return what dvc.yaml lets a stage write, and whether DVC's cache takes it.

    Empty without a dvc.yaml, or for a stage that it does not know.

    Raises:
        HostError: if it cannot be read.
    """
    content = _read(paths.PIPELINE) if paths.PIPELINE.exists() else {}
    found = content.get("stages", {}).get(stage, {})
    entries = [entry for kind in OUTPUTS for entry in found.get(kind, [])]
    pairs = [next(iter(e.items())) if isinstance(e, dict) else (e, {}) for e in entries]
    return {Path(path): options.get("cache", True) for path, options in pairs}


def code_of(stage: str) -> dict[str, Path]:
    """Return the files of code that dvc.yaml names as a stage's dependencies, by their names there.

    The dvc.yaml and the files are those of the repository that this code is in.

    Raises:
        HostError: if dvc.yaml cannot be read.
    """
    dependencies = _read(HERE / paths.PIPELINE)["stages"][stage]["deps"]
    return {name: HERE / name for name in dependencies if name.startswith("stages/")}


def recorded_outputs() -> list[Recorded]:
    """Return every output that dvc.lock and the .dvc files under data name.

    Raises:
        HostError: if there is no dvc.lock yet, or one of the files cannot be read.
    """
    if not paths.LOCK.exists():
        raise HostError(f"{paths.LOCK}: not found: nothing has run yet", "run: dvc repro")
    found = []
    for stage, entry in _read(paths.LOCK).get("stages", {}).items():
        cached = outputs_of(stage)
        for out in entry.get("outs", []):
            found.append(_recorded(out, Path(), stage, cached.get(Path(out["path"]), True)))
    for file in sorted(paths.RAW.parent.rglob("*.dvc")):
        outs = _read(file).get("outs", [])
        found += [_recorded(out, file.parent, str(file), out.get("cache", True)) for out in outs]
    return found


def _recorded(out: dict[str, Any], folder: Path, owner: str, cached: bool) -> Recorded:
    return Recorded(folder / out["path"], owner, str(out["md5"]), int(out["size"]), cached)


def bytes_recorded(stage: str) -> int:
    """Return the size of a stage's cached outputs when it last ran, 0 if it never did."""
    if not paths.LOCK.exists():
        return 0
    return sum(out.size for out in recorded_outputs() if out.owner == stage and out.cached)


def bytes_written(stage: str) -> int:
    """Return the size of a stage's cached outputs as they stand in the workspace."""
    cached = [path for path, taken in outputs_of(stage).items() if taken]
    return sum(file.stat().st_size for path in cached for file in files_of(path))


def files_of(path: Path) -> Iterator[Path]:
    """Yield a file itself, or every file of a folder in order; nothing if there is none."""
    for file in sorted(path.rglob("*")) if path.is_dir() else [path]:
        if file.is_file():
            yield file


def _read(path: Path) -> dict[str, Any]:
    try:
        content = yaml.load(path.read_text(encoding="utf-8"), Loader=LOADER)  # noqa: S506  # a SafeLoader
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        line = printable(str(error).replace("\n", " "), 200)
        raise HostError(f"{path}: cannot be read: {line}", f"run: git checkout {path}") from None
    return content if isinstance(content, dict) else {}
