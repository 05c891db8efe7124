"""Predictions as files and tables: what a model predicted for each test row. No torch in here."""

from pathlib import Path
from typing import IO, Any

import numpy as np
import pandas as pd

from stages.core.artefacts import replacing
from stages.core.errors import DataError, ModelError, printable

Array = np.ndarray[Any, np.dtype[np.float64]]


PREFIX = "p_"
STRINGS = ["id", "label", "predicted"]
SUM_ERROR = 1e-4  # float32 probabilities in 9 digits are nearer to a sum of 1 than this


def write_predictions(
    path: Path, ids: list[str], targets: list[int], labels: list[str], probabilities: Array
) -> None:
    """Write one line a row: id, true label, predicted label, one probability per class.

    Args:
        path: the CSV file, replaced as a whole.
        ids: a stable hash of each row's text.
        targets: label numbers into `labels`.
        labels: class names in the order of the columns.
        probabilities: shape (rows, classes). Written with 9 significant digits, which tell any
            two float32 values apart.

    Raises:
        ModelError: if the number of classes is not that of the label list.
    """
    if probabilities.shape != (len(ids), len(labels)):
        raise ModelError(
            f"{path}: {probabilities.shape} probabilities for {len(ids)} rows and "
            f"{len(labels)} labels",
            "make base and adapter again: dvc repro -f evaluate_base",
        )
    frame = pd.DataFrame(
        {
            "id": ids,
            "label": [labels[target] for target in targets],
            "predicted": [labels[number] for number in probabilities.argmax(axis=1)],
            **{f"{PREFIX}{label}": probabilities[:, at] for at, label in enumerate(labels)},
        }
    )
    with replacing(path) as temporary:
        frame.to_csv(temporary, index=False, float_format="%.9g", lineterminator="\n")


def read_predictions(file: Path | IO[bytes], name: str, fix: str) -> pd.DataFrame:
    """Return one model's predictions: id, label, predicted (strings), p_<class> (float64).

    Args:
        file: a path or an open binary file.
        name: what an error calls the file.
        fix: what an error tells the user to do.

    Raises:
        DataError: if the file cannot be read, a column is missing or unknown, an id repeats, a
            row's probabilities are not finite numbers from 0 to 1 that sum to 1, or its
            predicted class is not the likeliest.
        ModelError: if a label is none of the classes that have a column.
    """
    try:
        strings = dict.fromkeys(STRINGS, str)  # a column of 01 is not one of numbers
        frame = pd.read_csv(file, keep_default_na=False, dtype=strings)
        probabilities = frame.filter(regex=f"^{PREFIX}").to_numpy(dtype=float)
        repeated = frame[STRINGS]["id"].duplicated()
    except (ValueError, KeyError, OverflowError) as error:
        raise DataError(f"{name}: cannot be read: {printable(error)}", fix) from error
    if frame.empty or probabilities.shape[1] < 2:
        raise DataError(f"{name}: holds no predictions", fix)
    if repeated.any():
        raise DataError(f"{name}: line {repeated.argmax() + 2}: its id occurs twice", fix)
    if list(frame.columns[: len(STRINGS)]) != STRINGS:
        raise DataError(f"{name}: its first columns are not {', '.join(STRINGS)}", fix)
    if not all(column.startswith(PREFIX) for column in frame.columns[len(STRINGS) :]):
        raise DataError(f"{name}: its other columns are not {PREFIX}<class>", fix)
    _check_rows(frame, name, fix)
    return frame


def _check_rows(frame: pd.DataFrame, name: str, fix: str) -> None:
    """Refuse a row with invalid probabilities, or a predicted class that is not their maximum."""
    table, labels = probabilities_of(frame), labels_of(frame)

    def check(right: Any, fault: str) -> None:  # a boolean for each row
        if not right.all():
            raise DataError(f"{name}: line {right.argmin() + 2}: {fault}", fix)

    check(np.isfinite(table).all(axis=1), "a probability is not finite")
    check(((table >= 0) & (table <= 1)).all(axis=1), "a probability is not from 0 to 1")
    check(np.abs(table.sum(axis=1) - 1) < SUM_ERROR, "its probabilities do not sum to 1")
    for column in ("label", "predicted"):
        known = frame[column].isin(labels)
        if not known.all():
            line, value = known.argmin() + 2, printable(frame[column][known.argmin()])
            raise ModelError(f"{name}: line {line}: {column} {value} is no class of the file", fix)
    predicted = pd.Index(labels).get_indexer(pd.Index(frame["predicted"]))
    likeliest = table[np.arange(len(predicted)), predicted] == table.max(axis=1)
    check(likeliest, "its predicted class is not the likeliest")


def labels_of(frame: pd.DataFrame) -> list[str]:
    """Return the class names, in the order of the probability columns."""
    return [name.removeprefix(PREFIX) for name in frame.columns[len(STRINGS) :]]


def probabilities_of(frame: pd.DataFrame) -> Array:
    """Return the probabilities, shape (rows, classes)."""
    table: Array = frame.iloc[:, len(STRINGS) :].to_numpy(dtype=float)
    return table


def targets_of(frame: pd.DataFrame) -> np.ndarray[Any, np.dtype[np.int64]]:
    """Return each row's true label as a number into the class names, shape (rows,)."""
    numbers: np.ndarray[Any, np.dtype[np.int64]] = pd.Index(labels_of(frame)).get_indexer(
        pd.Index(frame["label"])
    )
    return numbers


def aligned(
    first: pd.DataFrame, second: pd.DataFrame, names: tuple[str, str], fix: str
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Return both tables with their rows in the order of the first: row by row they pair up.

    Args:
        first: predictions as `read_predictions` returns them.
        second: predictions of the same rows, in any order.
        names: what an error calls the two.
        fix: what an error tells the user to do.

    Raises:
        ModelError: if their class lists differ.
        DataError: if they do not hold the same rows with the same labels, or if all the rows
            are of one class.
    """
    one, other = names
    if list(first.columns) != list(second.columns):
        raise ModelError(
            f"{one} and {other} have other classes: "
            f"{printable(labels_of(first))} and {printable(labels_of(second))}",
            fix,
        )
    order = pd.Index(second["id"]).get_indexer(pd.Index(first["id"]))
    shared = int((order >= 0).sum())
    lonely = len(first) + len(second) - 2 * shared
    if lonely:
        raise DataError(
            f"{one} and {other}: other test rows: {lonely:,} rows are in one of the two only",
            fix,
        )
    second = second.iloc[order].reset_index(drop=True)
    differ = first["label"] != second["label"]
    if differ.any():
        row = printable(first["id"][differ.argmax()])
        raise DataError(f"{one} and {other} disagree on the true label of row {row}", fix)
    if first["label"].nunique() < 2:
        raise DataError(
            f"{one}: every test row is of the class {printable(first['label'][0])}",
            "give data.source test rows of two classes or more, then: dvc repro prepare",
        )
    return first, second
