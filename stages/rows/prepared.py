"""The prepared rows: read a split and the label list. No torch in here."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from stages.core import paths
from stages.core.artefacts import read_json, require
from stages.core.errors import DataError, printable


@dataclass(frozen=True)
class Split:
    """Rows of one split: ids, texts, and label numbers into the label list."""

    ids: list[str]
    texts: list[str]
    targets: list[int]


def read_labels() -> list[str]:
    """Return the class names, in the order of the logits."""
    return [str(label) for label in read_json(paths.LABELS)]


def read_split(path: Path, labels: list[str]) -> Split:
    """Read a split that stage prepare wrote.

    Raises:
        HostError: if the file is missing.
        DataError: if it is damaged, or holds a label outside the list.
    """
    import pandas as pd

    fix = "make it again: dvc repro -f prepare"
    try:
        frame = pd.read_parquet(require(path), columns=["id", "text", "label"])
    except PermissionError:
        raise
    except (OSError, ValueError, KeyError) as error:  # pyarrow tells of damage by an OSError, too
        raise DataError(f"{path}: cannot be read: {printable(error)}", fix) from error
    number = {label: index for index, label in enumerate(labels)}
    unknown = sorted(set(frame["label"]) - set(number))
    if unknown:
        raise DataError(f"{path}: label {printable(unknown[0])} is not in {paths.LABELS}", fix)
    return Split(
        frame["id"].tolist(), frame["text"].tolist(), [number[label] for label in frame["label"]]
    )
