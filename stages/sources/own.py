"""The user's own data and model: what of them an experiment takes into its folder apart."""

import glob
from collections.abc import Mapping
from contextlib import chdir
from fnmatch import fnmatch
from pathlib import Path

from stages.core.artefacts import files_of, is_ignored
from stages.core.errors import HostError, ParamsError, printable
from stages.core.params import Params
from stages.running.git import left_behind, outer_project
from stages.sources.catalogue import MODEL_FILES, Kind, place_of
from stages.sources.locate import format_of, is_local, is_pattern

Fault = tuple[str, str]


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
