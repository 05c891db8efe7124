"""Which params a stage reads."""

from __future__ import annotations

import inspect
from collections.abc import Iterable
from typing import Any

from pydantic import BaseModel


class Recorder:
    """A section of the params that records which of its fields are read, by dotted name."""

    def __init__(self, section: BaseModel, reads: set[str], prefix: str = "") -> None:
        self._section, self._reads, self._prefix = section, reads, prefix

    def __getattr__(self, name: str) -> Any:
        own = inspect.getattr_static(self._section, name)
        if isinstance(own, property) and own.fget:
            return own.fget(self)  # what it reads is read
        value = getattr(self._section, name)
        if isinstance(value, BaseModel):
            return Recorder(value, self._reads, f"{self._prefix}{name}.")
        if name in type(self._section).model_fields:
            self._reads.add(f"{self._prefix}{name}")
        elif name == "model_dump":
            return self._dump
        return value

    def _dump(self, exclude: Iterable[str] = (), **options: Any) -> dict[str, Any]:
        names = leaves(self._section, self._prefix)
        left_out = tuple(f"{self._prefix}{name}" for name in exclude)
        self._reads |= {
            n for n in names if not f"{n}.".startswith(tuple(f"{x}." for x in left_out))
        }
        return self._section.model_dump(exclude=set(exclude), **options)


def leaves(section: BaseModel, prefix: str = "") -> set[str]:
    """Return the dotted name of each field in the section and in the sections within it."""
    names: set[str] = set()
    for name in type(section).model_fields:
        value = getattr(section, name)
        inside = isinstance(value, BaseModel)
        names |= leaves(value, f"{prefix}{name}.") if inside else {f"{prefix}{name}"}
    return names
