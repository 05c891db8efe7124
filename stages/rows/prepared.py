"""The prepared rows: the one writer and reader of the splits and of the label list."""

import sys
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from stages.core import paths
from stages.core.artefacts import (
    files_of,
    read_json,
    remake,
    replacing,
    require,
    sha256_of,
    write_json,
)
from stages.core.errors import DataError, ModelError, ParamsError, UserError, printable
from stages.core.params import DataParams, Params
from stages.sources.locate import is_local, locate_data, locate_model

SPLITS = {"train": paths.TRAIN, "validation": paths.VALIDATION, "test": paths.TEST}
COLUMNS = ("id", "text", "label", "rating")  # the last where the source has ratings


@dataclass(frozen=True)
class Split:
    """Rows of one split: ids, texts, and label numbers into the label list."""

    ids: list[str]
    texts: list[str]
    targets: list[int]


def write_splits(splits: dict[str, pd.DataFrame], labels: list[str]) -> None:
    """Write each split as a Parquet file, and the label list.

    Args:
        splits: rows by the names of SPLITS, with the columns of COLUMNS and maybe more.
        labels: class names in the order of the logits.
    """
    for name, path in SPLITS.items():
        columns = [column for column in COLUMNS if column in splits[name]]
        with replacing(path) as temporary:
            splits[name][columns].to_parquet(temporary, index=False)
    write_json(paths.LABELS, labels)


def read_labels() -> list[str]:
    """Return the class names, in the order of the logits."""
    return [str(label) for label in read_json(paths.LABELS)]


def read_split(path: Path, labels: list[str]) -> Split:
    """Read a split that stage prepare wrote.

    Raises:
        HostError: if the file is missing.
        DataError: if it is damaged, or holds a label outside the list.
    """
    fix = remake(path)
    try:
        frame = pd.read_parquet(require(path), columns=["id", "text", "label"])
    except PermissionError:
        raise
    except (OSError, ValueError, KeyError) as error:  # pyarrow reports damage by an OSError, too
        raise DataError(f"{path}: cannot be read: {printable(error)}", fix) from error
    number = {label: index for index, label in enumerate(labels)}
    unknown = sorted(set(frame["label"]) - set(number))
    if unknown:
        raise DataError(f"{path}: label {printable(unknown[0])} is not in {paths.LABELS}", fix)
    return Split(
        frame["id"].tolist(), frame["text"].tolist(), [number[label] for label in frame["label"]]
    )


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
        now = locate_model(source, Path()).files
    except ParamsError:
        return f"{name} no longer exists; {base} is a copy of it"
    except ModelError as error:
        why = error.faults[0][0]
        return f"{name} has changed since {base} was copied from it, and cannot be used now: {why}"
    copied = {path.name: path for path in files_of(base)}
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
