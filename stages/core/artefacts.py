"""Write files completely or not at all, read them with clear errors, and hash their content."""

import glob
import hashlib
import json
import os
import re
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from functools import cache
from pathlib import Path
from typing import Any

import psutil
import yaml

from stages.core import paths
from stages.core.errors import DataError, HostError, printable

LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)  # DVC's own reader takes 20 times as long
OUTPUTS = ("outs", "metrics", "plots")
HERE = Path(__file__).parents[2]  # the repository that this code is in


def outputs() -> dict[str, dict[Path, bool]]:
    """Return what each stage of dvc.yaml writes, and whether DVC's cache takes it.

    The dvc.yaml is that of the working folder, or else that of this code's repository.

    Raises:
        HostError: if dvc.yaml cannot be read.
    """
    found, here = {}, paths.PIPELINE
    for name, stage in _stages(here if here.exists() else HERE / here).items():
        entries = [entry for kind in OUTPUTS for entry in stage.get(kind, [])]
        pairs = [next(iter(e.items())) if isinstance(e, dict) else (e, {}) for e in entries]
        found[name] = {Path(path): options.get("cache", True) for path, options in pairs}
    return found


def maker_of(path: Path) -> str | None:
    """Return the stage that writes a file or folder, None if no stage does.

    The path may be an output, be inside one, or be a folder that holds some; of several stages
    the first in dvc.yaml is meant.

    Raises:
        HostError: if dvc.yaml cannot be read.
    """
    for name, written in outputs().items():
        for output in written:
            if path.is_relative_to(output) or output.is_relative_to(path):
                return name
    return None


def code_of(stage: str) -> dict[str, Path]:
    """Return the files of code that a stage depends on, by their names relative to the repository.

    The dvc.yaml and the files are those of the repository that this code is in.

    Raises:
        HostError: if dvc.yaml cannot be read.
    """
    dependencies = _stages(HERE / paths.PIPELINE)[stage]["deps"]
    code = [HERE / name for name in dependencies if name.startswith("stages/")]
    return {file.relative_to(HERE).as_posix(): file for path in code for file in files_of(path)}


def files_of(path: Path) -> Iterator[Path]:
    """Yield a file itself, or in order every file below a folder that is not in .dvcignore."""
    if path.is_file():
        yield path
        return
    for file in sorted(path.rglob("*")):
        if file.is_file() and not is_ignored(file.relative_to(path)):
            yield file


def is_ignored(path: Path) -> bool:
    """Return whether .dvcignore names a file, as it does what desktops and editors leave."""
    return bool(_ignored().match_file(path))


@cache
def _ignored() -> Any:
    """Return pathspec's view of .dvcignore, in which all is named without a folder above."""
    from pathspec import GitIgnoreSpec  # the help of a command does not wait for it

    file = HERE / ".dvcignore"
    return GitIgnoreSpec.from_lines(file.read_text("utf-8").splitlines() if file.exists() else [])


def read_yaml(path: Path) -> dict[str, Any]:
    """Return the content of one of DVC's YAML files, empty if it holds no mapping.

    Raises:
        HostError: if it cannot be read.
    """
    try:
        text = path.read_text(encoding="utf-8")
        content = yaml.load(text, Loader=LOADER)  # noqa: S506  # a SafeLoader
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        refuse_conflicts(path)
        line = printable(str(error).replace("\n", " "), 200)
        raise HostError(f"{path}: cannot be read: {line}", back(path)) from None
    return content if isinstance(content, dict) else {}


def back(path: Path) -> str:
    """Return what to tell the user of a damaged file that git keeps and no stage writes."""
    if path in (paths.LOCK, *paths.RECORDS):  # nobody's own words
        return f"run: git checkout HEAD -- {path}"
    return f"correct it: git diff {path} shows what changed"


def refuse_conflicts(*files: Path) -> None:
    """Refuse files that hold the marks of a merge.

    Raises:
        HostError: naming each, and how to keep one side of it. What a command or DVC writes is
            taken from the present branch; only what people write needs a decision.
    """
    marked = []
    for path in files:
        with suppress(OSError):
            if path.is_file() and b"\n<<<<<<< " in b"\n" + path.read_bytes():
                marked.append(path)
    own = [path for path in marked if path.suffix in (".yaml", ".dvc")]
    again = [path for path in marked if path not in own]
    fixes = {path: f"keep one side of each, then run: git add {path}" for path in own}
    fixes |= dict.fromkeys(again, f"run: git checkout HEAD -- {' '.join(map(str, again))}")
    if marked:
        what = "{}: holds the marks of a merge conflict"
        raise HostError.from_faults([(what.format(path), fix) for path, fix in fixes.items()])


def _stages(path: Path) -> dict[str, Any]:
    """Return the stages of a dvc.yaml, none where there is no such file."""
    stages = read_yaml(path).get("stages") if path.exists() else {}
    return stages if isinstance(stages, dict) else {}


Json = dict[str, Any]
SIGNIFICANT = 3  # digits that a small number keeps


def sha256_of(path: Path) -> str:
    """Return the hex sha256 of a file's bytes."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def require(path: Path) -> Path:
    """Return `path` if it exists.

    Raises:
        HostError: if it does not, naming the stage that makes it.
    """
    if not path.exists():
        stage = maker_of(path)
        maker = f"stage {stage!r} makes it" if stage else "no stage makes it"
        raise HostError(f"{path} not found: {maker}", f"run: dvc repro {stage or ''}".rstrip())
    return path


def remake(path: Path) -> str:
    """Return what to tell the user of a damaged file: the command that makes it again."""
    if path in paths.RECORDS:
        return back(path)
    stage = maker_of(path)
    return f"make it again: dvc repro -f {stage}" if stage else "make it again: dvc repro"


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Give a temporary name next to `path`; rename it to `path` when the block ends without error.

    A reader sees the old content or the new, never half of it (of a folder for a moment nothing).
    Works for a file, or a folder as a whole. Leftovers of a killed run are removed.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    for stale in path.parent.glob(f".{glob.escape(path.name)}.tmp-*"):
        owner = re.search(r"\.tmp-(\d{1,9})$", stale.name)  # no process has a longer number
        if not owner or int(owner[1]) == os.getpid() or not psutil.pid_exists(int(owner[1])):
            _remove(stale)
    temporary = path.with_name(f".{path.name}.tmp-{os.getpid()}")
    try:
        yield temporary
        for file in sorted(temporary.rglob("*")) if temporary.is_dir() else [temporary]:
            if file.is_file():
                with file.open("rb") as handle:
                    os.fsync(handle.fileno())
        if temporary.exists() and (path.is_dir() or temporary.is_dir()):  # no rename replaces it
            _remove(path)
        temporary.replace(path)
    finally:
        _remove(temporary)


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def write_json(
    path: Path, content: Mapping[str, Any] | list[Any], decimals: int | None = 6
) -> None:
    """Write JSON that is the same bytes for the same content.

    Keys are sorted, and the file ends with a newline. Floats are rounded to `decimals` (None: not
    at all); a number that would become 0 keeps three significant digits.

    Raises:
        ValueError: if a number is not finite.
    """
    text = json.dumps(
        content if decimals is None else _rounded(content, decimals),
        indent=2,
        sort_keys=True,
        allow_nan=False,
        ensure_ascii=False,
    )
    with replacing(path) as temporary:
        temporary.write_text(text + "\n", encoding="utf-8", newline="\n")


def _rounded(value: Any, decimals: int) -> Any:
    if isinstance(value, float):
        rounded = round(value, decimals) or float(f"{value:.{SIGNIFICANT}g}")
        return rounded + 0.0  # -0.0 becomes 0.0
    if isinstance(value, Mapping):
        return {key: _rounded(item, decimals) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_rounded(item, decimals) for item in value]
    return value


def read_json(path: Path) -> Any:
    """Return the content of a JSON file that a stage wrote.

    Raises:
        HostError: if the file is missing, naming the stage that makes it.
        DataError: if it is not JSON.
    """
    try:
        return json.loads(require(path).read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:  # brackets without end are too deep
        if maker_of(path) is None:
            refuse_conflicts(path)
        raise DataError(
            f"{path}: not valid JSON: {printable(error)}",
            remake(path),
        ) from error


def read_object(path: Path, *keys: str) -> Json:
    """Return a JSON object that a stage wrote.

    Raises:
        HostError: if the file is missing.
        DataError: if it is damaged or lacks one of the keys.
    """
    content = read_json(path)
    if not isinstance(content, dict) or not set(keys) <= set(content):
        raise DataError(
            f"{path}: lacks one of {', '.join(keys)}",
            remake(path),
        )
    return content
