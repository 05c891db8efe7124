"""Write the best settings into params.yaml: their values change, and no other byte."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML

from stages.core import paths
from stages.core.artefacts import replacing
from stages.core.errors import ParamsError
from stages.core.params import parse_params
from stages.core.params_errors import read_text
from stages.reporting.search_records import shown


def apply(changes: dict[str, Any], path: Path = paths.PARAMS) -> None:
    """Put values, given by the param's dotted path, into the file.

    Raises:
        ParamsError: if params.yaml lacks a param, or would be wrong then; it stays as it is.
    """
    text = read_text(path)
    for dotted, value in changes.items():
        text = with_value(text, dotted, value, path)
    parse_params(text, path)
    with replacing(path) as temporary:
        temporary.write_text(text, encoding="utf-8", newline="")


def with_value(text: str, dotted: str, value: Any, path: Path) -> str:
    """Return the YAML text with another value at a dotted path.

    Raises:
        ParamsError: if there is no such key.
    """
    node = YAML(typ="safe", pure=True).compose(text)
    for name in dotted.split("."):
        values = {key.value: below for key, below in getattr(node, "value", ())}
        if name not in values:
            what = f"{path}: has no key {dotted}"
            raise ParamsError(what, f"add it, with the value {shown(value)}")
        node = values[name]
    start, end = node.start_mark.index, node.end_mark.index
    lines = text[start:end].splitlines(keepends=True)
    # A block ends where the next key starts; the comments in between belong to that key.
    while len(lines) > 1 and lines[-1].split("#")[0].strip() == "":
        end -= len(lines.pop())
    last = text[start:end]
    return text[:start] + _plain(value) + last[len(last.rstrip()) :] + text[end:]


def _plain(value: Any) -> str:
    """Return a value as YAML in one line, without quotes where it means the same."""
    if isinstance(value, str) and YAML(typ="safe", pure=True).load(value) == value:
        return value
    return json.dumps(value, ensure_ascii=False)
