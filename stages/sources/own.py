"""The user's own data and model: what an experiment lacks of them, and what has changed since."""

import glob
import os
import re
import shlex
import sys
from collections.abc import Iterator, Mapping
from contextlib import chdir, suppress
from fnmatch import fnmatch
from pathlib import Path

from stages.core import paths
from stages.core.artefacts import files_of, is_ignored, read_json, sha256_of
from stages.core.errors import DataError, HostError, ParamsError, UserError, printable
from stages.core.params import DataParams, Params
from stages.running.dvc import dvc_files, git, outs_of
from stages.sources.catalogue import MODEL_FILES, Kind, place_of
from stages.sources.locate import format_of, is_local, is_pattern, locate_data

Fault = tuple[str, str]
EXPERIMENT = re.compile(r"(.+)/\.dvc/tmp/exps/")  # where DVC runs those apart from the workspace


def sources_of(params: Params) -> dict[Kind, str]:
    """Return the sources of data and model."""
    return {"data": params.data.source, "models": params.model.source}


def own_faults(sources: Mapping[Kind, str]) -> list[Fault]:
    """Return a fault for each source of which an experiment apart would lack a part.

    DVC would run it without a word on what is left of a pattern or a folder.

    Raises:
        HostError: if this is no git clone.
    """
    faults = []
    for kind, source in sources.items():
        files = _files(source, kind)
        missing, fix = left_behind(files, Path(source) if Path(source).is_dir() else None)
        if missing:
            of = f"{len(missing)} of {len(files)} files, " if len(files) > 1 else ""
            what = f"git does not know {of}{printable(missing[0])}, so an experiment lacks it"
            faults.append((f"{place_of(kind)}: {printable(source)}: {what}", fix))
    return faults


def check_in_experiment(sources: Mapping[Kind, str]) -> None:
    """Check in an experiment's folder that nothing of a source has stayed in the workspace.

    Raises:
        HostError: naming what has.
    """
    if project := outer_project():
        with chdir(project):
            faults = own_faults(sources)
        if faults:
            there = [(what, f"in {printable(project)} {fix}") for what, fix in faults]
            raise HostError.from_faults(there)


def _files(source: str, kind: Kind) -> list[Path]:
    """Return the user's files that a source names; none for a known name, an id or nothing."""
    try:
        if not is_local(source, kind):
            return []
    except ParamsError:  # the stage that reads it says so
        return []
    path = Path(source)
    if path.is_dir():
        found = list(files_of(path))
    elif is_pattern(source) and not path.exists():
        names = glob.glob(source, recursive=True)  # noqa: PTH207  # the pattern may be absolute
        matches = [file for file in map(Path, names) if file.is_file()]
        found = [file for file in matches if not is_ignored(Path(file.name))]
    else:
        return [path]
    if kind == "data":
        texts = [file for file in found if not file.suffix and not file.name.startswith(".")]
        return sorted([*texts, *(file for file in found if format_of(file))])
    wanted = [*MODEL_FILES, "*.safetensors"]
    return sorted(file for file in found if any(fnmatch(file.name, each) for each in wanted))


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


PREPARE = "run `dvc repro -f prepare`, or keep it under data/raw, which DVC watches"
REFETCH = "run `dvc repro -f fetch_base`"


def warn_if_changed(params: Params, with_model: bool) -> None:
    """Print a warning on stderr for each source that changed; see `source_changes`."""
    for change in source_changes(params, with_model):
        print(f"warning: {change}", file=sys.stderr)


def source_changes(params: Params, with_model: bool = True) -> Iterator[str]:
    """Yield a line for each local source that is not what stage prepare or fetch_base read.

    Args:
        params: what names the sources.
        with_model: not for a stage that reads the rows alone, and may run before fetch_base.
    """
    with suppress(UserError, OSError):  # a warning stops nothing: a stage checks what it needs
        summary = read_json(paths.DATA_SUMMARY)
        recorded = summary.get("source_sha256") if isinstance(summary, dict) else None
        if recorded and (change := source_change(params.data, recorded)):
            yield change
    with suppress(UserError, OSError):
        if with_model and (change := model_change(params.model.source)):
            yield change


def source_change(params: DataParams, recorded: str) -> str | None:
    """Return how a local source outside data/raw differs from the recorded sha256, or None."""
    if Path(params.source).resolve().is_relative_to(paths.RAW.resolve()):
        return None
    try:
        if not is_local(params.source, "data"):
            return None
        now = locate_data(params.source, Path()).sha256
    except (ParamsError, DataError):  # it, or a split of it, no longer exists
        return f"{printable(params.source)} no longer exists; the prepared rows come from it"
    if now != recorded:
        return f"{printable(params.source)} has changed since the data were prepared: {PREPARE}"
    return None


def model_change(source: str) -> str | None:
    """Return how a local model folder differs from the copy of it in models/base, or None."""
    base, name = paths.BASE_MODEL, printable(Path(source))
    try:
        if not base.is_dir() or not is_local(source, "models"):
            return None
    except ParamsError:
        return f"{name} no longer exists; {base} is a copy of it"
    changed = [
        file.name
        for file in files_of(base)
        if not (own := Path(source, file.name)).is_file() or sha256_of(own) != sha256_of(file)
    ]
    if not changed:
        return None
    files = printable(", ".join(changed))
    return f"{name} has changed since {base} was copied from it ({files}): {REFETCH}"
