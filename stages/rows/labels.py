"""Texts and labels: from the values in a file to strings, and the list of classes.

A csv file knows text alone, JSON knows numbers and booleans, Parquet knows thirty types, and Excel
makes a number of what looks like one. So that the same table in two formats is the same data, a
label is compared as text, and a number is spelled in one way: 1, 1.0, "1" and "1.0" are one label.
"""

import difflib
import re
from collections import Counter
from collections.abc import Mapping
from decimal import Decimal
from functools import lru_cache
from typing import Any

import pandas as pd

from stages.core.errors import DataError, printable
from stages.sources.locate import DataSource

MAX_CLASSES = 1000
NO_FRACTION = re.compile(r"(-?[0-9]+)\.0+")
BOOLEANS = ("true", "false")  # Python writes True, R and Excel TRUE, most others true


class NoValueError(ValueError):
    """A cell that is no single text, number or boolean: what it is, and the remedy."""

    def __init__(self, what: str, fix: str) -> None:
        super().__init__(what, fix)
        self.what, self.fix = what, fix


def text_of(value: Any) -> str | None:
    """Return a text verbatim, and a number or boolean as Python writes it; None for nothing.

    Raises:
        NoValueError: if it is of another kind.
    """
    return _plain(value, "text")


def label_of(value: Any, names: tuple[str, ...] | None = None) -> str | None:
    """Return the one spelling of a label, None for nothing; a list of one is its only value.

    Args:
        value: as the file has it.
        names: of integer labels from 0, where the source has such; -1 is then no label.

    Raises:
        NoValueError: if it is no label, or an integer outside the source's names.
    """
    if names and isinstance(value, (int, float)) and not isinstance(value, bool):
        if value == -1 or value != value:  # unlabelled on the Hub; NaN
            return None
        if not (0 <= value < len(names) and float(value).is_integer()):
            what = f"label {value} is none of the {len(names)} that the source names"
            raise NoValueError(what, "correct the row, or set data.label_column")
        return names[int(value)]
    if isinstance(value, list):
        if len(value) > 1:
            raise NoValueError(
                f"the label is a list of {len(value)}: that is a multi-label task, and here each "
                "text has one label",
                "keep one label for each row, or name one by its place: "
                "data.label_column: <column>.0",
            )
        if value and isinstance(value[0], list):
            what = f"the label is a list of lists, {printable(repr(value))}: that marks spans"
            raise NoValueError(what, "give one class for each text")
        value = value[0] if value else None
    label = _plain(value, "label")
    return None if label is None else _spelling(label)


@lru_cache(maxsize=10_000)  # one string object for a class, not one for a row
def _spelling(label: str) -> str:
    """Return a number without an empty fraction, and a boolean in small letters."""
    if label.lower() in BOOLEANS:
        return label.lower()
    number = NO_FRACTION.fullmatch(label)
    if number is None:
        return label
    return "0" if number[1] == "-0" else number[1]


def _plain(value: Any, what: str) -> str | None:
    """Return a text, a number, a boolean or bytes as text; None for nothing, or NaN."""
    if value is None or isinstance(value, str):
        return value
    if isinstance(value, (float, Decimal)) and value != value:  # NaN alone differs from itself
        return None
    if isinstance(value, (bool, int)):
        return str(value)
    if isinstance(value, float):
        return repr(value)  # the shortest that is this number again
    if isinstance(value, Decimal):
        return format(value, "f")
    if isinstance(value, bytes):
        try:
            return value.decode("utf-8")
        except UnicodeDecodeError:
            raise NoValueError(f"the {what} is bytes that are not UTF-8", "write text") from None
    if isinstance(value, Mapping):
        names = printable(", ".join(map(str, value)), 60)
        raise NoValueError(
            f"the {what} is an object with {names or 'nothing in it'}",
            f"name one of its fields with a dot: data.{what}_column: <column>.<field>",
        )
    kind = "a list" if isinstance(value, list) else f"of type {type(value).__name__}"
    raise NoValueError(
        f"the {what} {printable(repr(value))} is {kind}, neither text nor a number",
        f"write it as text, or set data.{what}_column",
    )


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
    known = Counter(rows.loc[rows["split"].isin(["train", "all"]), "label"])
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
