"""The prepared rows: the one writer and reader of the splits and of the label list."""

from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from stages.core import paths
from stages.core.artefacts import read_json, remake, replacing, require, write_json
from stages.core.errors import DataError, printable

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
