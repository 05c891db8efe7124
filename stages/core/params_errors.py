"""What an error in params.yaml says: its file, line and key, what was expected, and a remedy.

The schema is handed in, so this module knows how to explain any of the same kind.
"""

from __future__ import annotations

import difflib
import reprlib
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ValidationError
from ruamel.yaml import YAML
from ruamel.yaml.error import MarkedYAMLError

from stages.core.errors import ParamsError, UserError, printable


def explained(
    error: ValidationError, schema: type[BaseModel], content: dict[str, Any], text: str, path: Path
) -> UserError:
    """Return a ParamsError that reports every fault that pydantic found.

    Args:
        error: what pydantic raised.
        schema: the model that was checked; its fields have a description and an example.
        content: the parsed params.
        text: the file's text, for the line numbers.
        path: what the error calls the file.
    """
    lines = _line_numbers(text)
    faults = {  # by key, since a union reports each of its members
        key: (f"{path}:{_line_of(lines, key)}: {what}", fix)
        for key, what, fix in (_explain(fault, schema, content) for fault in error.errors())
    }
    return ParamsError.from_faults(list(faults.values()))


def read_text(path: Path) -> str:
    """Return a file's text.

    Raises:
        ParamsError: if there is no such file, or it is not UTF-8.
    """
    try:
        return path.read_bytes().decode("utf-8-sig")
    except (FileNotFoundError, IsADirectoryError):
        raise ParamsError(f"{path}: not found", "run from the repository root") from None
    except UnicodeDecodeError as error:
        line = error.object[: error.start].count(b"\n") + 1
        raise ParamsError(
            f"{path}:{line}: byte {error.start} is not UTF-8", "save the file as UTF-8"
        ) from None


def parse_yaml(text: str, path: Path) -> dict[str, Any]:
    """Return the sections of a YAML 1.2 text, not checked yet.

    Raises:
        ParamsError: if it is not YAML, or holds no sections.
    """
    try:
        content = YAML(typ="safe", pure=True).load(text)
    except MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        place = f"{path}:{mark.line + 1}:{mark.column + 1}" if mark else str(path)
        raise ParamsError(
            f"{place}: not valid YAML 1.2: {printable(error.problem or error.context)}",
            "correct that line or one above it; git diff shows what changed",
        ) from None
    except Exception as error:  # a tag can make the parser raise anything: !!bool x is a KeyError
        position = getattr(error, "position", None)
        place = str(path) if position is None else f"{path}:{text[:position].count(chr(10)) + 1}"
        raise ParamsError(
            f"{place}: not valid YAML 1.2: {printable(str(error).partition(chr(10))[0])}",
            "restore it with: git checkout params.yaml",
        ) from None
    if not isinstance(content, dict):
        raise ParamsError(
            f"{path}:1: expected sections of keys, got {_shown(content)}",
            "restore it with: git checkout params.yaml",
        )
    return content


def _explain(fault: Any, schema: type[BaseModel], content: dict[str, Any]) -> tuple[str, str, str]:
    """Return (key, what is wrong, remedy) for one fault that pydantic found."""
    names = [part for part in fault["loc"] if isinstance(part, str)]
    known, field = resolve(schema, names)
    key = ".".join(known)
    if fault["type"] == "value_error":
        what, fix = fault["ctx"]["error"].args
        return what.partition(":")[0], what, fix
    if fault["type"] == "extra_forbidden":
        section, wrong = _section(schema, known), printable(names[len(known)])
        close = difflib.get_close_matches(wrong, section, n=1)
        hint = f", did you mean {close[0]}?" if close else ""
        full = ".".join([*known, wrong])
        return full, f"{full}: unknown key{hint}", f"use one of {_keys(schema, known)}"
    if fault["type"] == "missing":
        if not field.examples:
            return key, f"{key}: missing", f"add a section with the keys {_keys(schema, known)}"
        return key, f"{key}: missing", f"add {key}, for example {_yaml(field.examples[0])}"
    if fault["type"] == "invalid_key" and not (field and field.examples):
        wrong = ".".join([*known, printable(fault["loc"][-1])])
        return wrong, f"{wrong}: a key is a name, not a value", f"use one of {_keys(schema, known)}"
    if not field.examples:
        got = _shown(_value(content, known))
        return (
            key,
            f"{key}: expected a section, got {got}",
            f"give it the keys {_keys(schema, known)}",
        )
    return (
        key,
        f"{key}: expected {field.description}, got {_shown(_value(content, known))}",
        f"set {key} to what you want, for example {_yaml(field.examples[0])}",
    )


def resolve(schema: type[BaseModel], names: list[str]) -> tuple[list[str], Any]:
    """Follow `names` through the schema: the part that exists, and the field it ends at."""
    model: Any = schema
    known: list[str] = []
    field = None
    for name in names:
        if not (isinstance(model, type) and issubclass(model, BaseModel)):
            break
        if name not in model.model_fields:
            break
        known.append(name)
        field = model.model_fields[name]
        model = field.annotation
    return known, field


def _section(schema: type[BaseModel], known: list[str]) -> list[str]:
    model: Any = schema
    for name in known:
        model = model.model_fields[name].annotation
    return list(model.model_fields)


def _keys(schema: type[BaseModel], known: list[str]) -> str:
    return ", ".join(_section(schema, known))


def _shown(value: Any) -> str:
    """Return a short repr even of a value that aliases make endless."""
    short = reprlib.Repr()
    short.maxstring = short.maxother = short.maxlong = 80
    try:
        return printable(short.repr(value))
    except ValueError:  # Python writes out no integer of more than 4,300 digits
        return "a number of thousands of digits"


def _value(content: Any, known: list[str]) -> Any:
    for name in known:
        content = content.get(name) if isinstance(content, dict) else None
    return content


def _yaml(value: Any) -> str:
    return (
        "null" if value is None else str(value).lower() if isinstance(value, bool) else str(value)
    )


def _line_numbers(text: str) -> dict[str, int]:
    """Return the line of each dotted key, counted from 1, of the sections and what is in them."""
    lines: dict[str, int] = {}

    def walk(node: Any, prefix: str, depth: int) -> None:
        for key, value in node.value:
            name = f"{prefix}{printable(key.value)}"  # as a message shows it
            lines[name] = key.start_mark.line + 1
            if value.id == "mapping" and depth > 1:  # aliases can make it endless
                walk(value, f"{name}.", depth - 1)

    walk(YAML(typ="safe", pure=True).compose(text), "", 2)
    return lines


def _line_of(lines: dict[str, int], key: str) -> int:
    """Return the key's line, or that of the section which lacks it."""
    key = key.split(" + ")[0]
    while key and key not in lines:
        key = key.rpartition(".")[0]
    return lines.get(key, 1)
