"""Nested fields by dotted names, as annotation tools write them: data.text, annotations.0.label."""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from stages.core.errors import DataError, printable

MISSING = object()
DEPTH = 10  # levels of nesting of the names that a message offers


def field_of(value: Any, name: str) -> Any:
    """Return the field of a row by its name, or MISSING.

    A name that is there as it stands comes first; then each part between dots is a key of an
    object, or the place in a list, from 0.
    """
    if isinstance(value, list):
        first, _, rest = name.partition(".")
        if not (first.isascii() and first.isdecimal() and len(first) < 9):
            return MISSING
        if int(first) >= len(value):
            return None  # an empty list of annotations: there is none
        return field_of(value[int(first)], rest) if rest else value[int(first)]
    if value is None:
        return None
    if not isinstance(value, Mapping):
        return MISSING
    if name in value:
        return value[name]
    at = name.find(".")
    while at >= 0:  # a key may hold dots itself
        if name[:at] in value:
            found = field_of(value[name[:at]], name[at + 1 :])
            if found is not MISSING:
                return found
        at = name.find(".", at + 1)
    return MISSING


def names_of(value: Any, depth: int = DEPTH) -> Iterator[str]:
    """Yield the dotted names of the plain fields in a row."""
    if isinstance(value, Mapping):
        fields: Any = value.items()
    elif isinstance(value, list):
        fields = enumerate(value[:1])
    else:
        return
    for name, content in fields:
        inner = list(names_of(content, depth - 1)) if depth > 1 else []
        yield from (f"{name}.{rest}" for rest in inner)
        if not inner:
            yield str(name)


def no_column(path: Path, name: str, there: list[str]) -> DataError:
    """Return the error for a column that a file does not have, with a guess."""
    ends = [other for other in there if other.rpartition(".")[2] == name]
    close = ends[:1] or difflib.get_close_matches(name, there, n=1)
    hint = f", did you mean {printable(close[0])}?" if close else ""
    return DataError(
        f"{printable(path)}: line 1: no column {printable(name)}{hint}",
        f"name one of its columns: {printable(', '.join(there), 200)}",
    )
