"""Labels: from the values in a file to class names, and the list of classes."""

from __future__ import annotations

import difflib
import re
from collections import Counter
from typing import TYPE_CHECKING, Any

from stages.core.errors import DataError, printable
from stages.rows.values import NoValueError, label_text
from stages.sources.locate import DataSource

if TYPE_CHECKING:  # heavy libraries are imported once the params have been checked
    import pandas as pd

MAX_CLASSES = 1000


def label_of(value: Any, names: tuple[str, ...] | None) -> str | None:
    """Return a label as text; an integer becomes its name where the source names them.

    Raises:
        NoValueError: if it is no label, or an integer outside the source's names.
    """
    number = isinstance(value, (int, float)) and not isinstance(value, bool)
    if names and number and value == value:  # NaN is the only value that differs from itself
        if value == -1:  # unlabelled on the Hub
            return None
        if not (0 <= value < len(names) and float(value).is_integer()):
            what = f"label {value} is none of the {len(names)} that the source names"
            raise NoValueError(what, "correct the row, or set data.label_column")
        return names[int(value)]
    return label_text(value)


def label_list(rows: pd.DataFrame, source: DataSource) -> list[str]:
    """Return the classes in order: as the source names them, by number, or by the alphabet.

    Raises:
        DataError: if there are fewer than 2 or implausibly many, if two differ in case only, or
            if one is in validation or test but not in train.
    """
    counted = Counter(rows["label"])
    files = ", ".join(printable(file) for file in source.splits.values())
    if len(counted) < 2:
        raise DataError(
            f"{files}: label: only one class, {printable(next(iter(counted), 'none'))}",
            "give rows of at least two classes, or set data.label_column",
        )
    if len(counted) > MAX_CLASSES or len(counted) > max(20, len(rows) / 2):
        raise DataError(
            f"{files}: label: {len(counted)} different labels in {len(rows)} rows",
            "set data.label_column to the column with the class",
        )
    _check_spelling(rows, counted)
    if source.label_names and set(counted) <= set(source.label_names):
        return [name for name in source.label_names if name in counted]
    if all(re.fullmatch("-?[0-9]{1,18}", label) for label in counted):
        return sorted(counted, key=lambda label: (int(label), label))
    return sorted(counted)


def _check_spelling(rows: pd.DataFrame, counted: Counter[str]) -> None:
    """Refuse a label that is another one's misspelling, or that train lacks."""
    training = rows[rows["split"].isin(["train", "all"])]
    known = Counter(training["label"])
    faults = []
    for label in counted:
        twin = next((k for k in known if k != label and k.casefold() == label.casefold()), None)
        if label in known and (twin is None or known[twin] < known[label]):
            continue
        close = twin or next(iter(difflib.get_close_matches(label, list(known), n=1)), None)
        first = rows[rows["label"] == label].iloc[0]
        where = f"{printable(first['file'])}: line {first['line']}"
        hint = f", did you mean {printable(close)}?" if close else ""
        why = "differs from another in case only" if label in known else "is not in train"
        faults.append(
            (
                f"{where}: label {printable(label)} {why}{hint}",
                "spell each class in one way, and give train rows of every class",
            )
        )
    if faults:
        raise DataError.from_faults(faults)
