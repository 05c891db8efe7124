"""One text for each value, whatever the format of its file: 1, 1.0, "1" and "1.0" are one label.

A csv file knows text alone, JSON knows numbers and booleans, Parquet knows thirty types, and Excel
makes a number of what looks like one. So that the same table in two formats is the same data, a
label is compared as text, and a number is spelled in one way.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from decimal import Decimal
from functools import lru_cache
from typing import Any

from stages.core.errors import printable

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
    if value is None or isinstance(value, str):
        return value
    return None if _is_nan(value) else _plain(value, "text")


def label_text(value: Any) -> str | None:
    """Return the one spelling of a label, None for nothing; a list of one is its only value.

    Raises:
        NoValueError: if it is a list of several or of another kind.
    """
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
    if value is None or _is_nan(value):
        return None
    return _spelling(value if isinstance(value, str) else _plain(value, "label"))


@lru_cache(maxsize=10_000)  # one string object for a class, not one for a row
def _spelling(label: str) -> str:
    """Return a number without an empty fraction, and a boolean in small letters."""
    if label.lower() in BOOLEANS:
        return label.lower()
    number = NO_FRACTION.fullmatch(label)
    if number is None:
        return label
    return "0" if number[1] == "-0" else number[1]


def _is_nan(value: Any) -> bool:
    return isinstance(value, (float, Decimal)) and value != value  # only NaN differs from itself


def _plain(value: Any, what: str) -> str:
    """Return a number, a boolean or bytes as text."""
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
