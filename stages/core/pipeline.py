"""What dvc.yaml says: which stage writes which file, on which code it depends. No DVC in here."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

from stages.core import paths
from stages.core.errors import HostError, printable

LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)  # DVC's own reader takes 20 times as long
OUTPUTS = ("outs", "metrics", "plots")
HERE = Path(__file__).parents[2]  # the repository that this code is in


def outputs_of(stage: str) -> dict[Path, bool]:
    """Return what dvc.yaml lets a stage write, and whether DVC's cache takes it.

    Empty for a stage that dvc.yaml does not know.

    Raises:
        HostError: if dvc.yaml cannot be read.
    """
    return _outputs(_stages(_pipeline_file()).get(stage, {}))


def _outputs(stage: dict[str, Any]) -> dict[Path, bool]:
    """Return the outputs of a stage's entry in dvc.yaml, and whether DVC's cache takes each."""
    entries = [entry for kind in OUTPUTS for entry in stage.get(kind, [])]
    pairs = [next(iter(e.items())) if isinstance(e, dict) else (e, {}) for e in entries]
    return {Path(path): options.get("cache", True) for path, options in pairs}


def maker_of(path: Path) -> str | None:
    """Return the stage that writes a file or folder, None if no stage does.

    The path may be an output, be inside one, or be a folder that holds some; of several stages
    the first in dvc.yaml is meant.

    Raises:
        HostError: if dvc.yaml cannot be read.
    """
    for name, stage in _stages(_pipeline_file()).items():
        for output in _outputs(stage):
            if path.is_relative_to(output) or output.is_relative_to(path):
                return name
    return None


def code_of(stage: str) -> dict[str, Path]:
    """Return the files of code that a stage depends on, by their names relative to the repository.

    Of a folder in the stage's deps these are all files below it but Python's caches. The dvc.yaml
    and the files are those of the repository that this code is in.

    Raises:
        HostError: if dvc.yaml cannot be read.
    """
    dependencies = _stages(HERE / paths.PIPELINE)[stage]["deps"]
    code = [HERE / name for name in dependencies if name.startswith("stages/")]
    files = [file for path in code for file in (path, *sorted(path.rglob("*"))) if file.is_file()]
    return {
        file.relative_to(HERE).as_posix(): file
        for file in files
        if file.parent.name != "__pycache__"
    }


def read_yaml(path: Path) -> dict[str, Any]:
    """Return the content of one of DVC's YAML files, empty if it holds no mapping.

    Raises:
        HostError: if it cannot be read.
    """
    try:
        content = yaml.load(path.read_text(encoding="utf-8"), Loader=LOADER)  # noqa: S506  # a SafeLoader
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        line = printable(str(error).replace("\n", " "), 200)
        raise HostError(f"{path}: cannot be read: {line}", f"run: git checkout {path}") from None
    return content if isinstance(content, dict) else {}


def _pipeline_file() -> Path:
    """Return the dvc.yaml of the working folder, or else that of this code's repository."""
    return paths.PIPELINE if paths.PIPELINE.exists() else HERE / paths.PIPELINE


def _stages(path: Path) -> dict[str, Any]:
    """Return the stages of a dvc.yaml, none where there is no such file."""
    stages = read_yaml(path).get("stages") if path.exists() else {}
    return stages if isinstance(stages, dict) else {}
