"""The known sources of catalogue.yaml: what each holds, where it comes from, each file's hash."""

import difflib
import re
from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field
from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from stages.core.errors import ParamsError, printable

CATALOGUE = Path(__file__).with_name("catalogue.yaml")

# The files of a model beside its weights: configuration and vocabularies.
MODEL_FILES = ("*.json", "*.txt", "*.model", "*.codes")
WEIGHTS = "model.safetensors"

HUB_ID = r"[A-Za-z0-9][A-Za-z0-9._-]{0,95}/[A-Za-z0-9][A-Za-z0-9._-]{0,95}"
PINNED = rf"{HUB_ID}@[0-9a-f]{{40}}"

Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Package(_Section):
    """One file of the package index, and the member of it that is used."""

    requirement: str
    sha256: Sha256
    part: str | None = None
    sdist: bool = False


class Mirror(_Section):
    """Packages that together hold an entry's files."""

    packages: list[Package]
    folder: str


class File(_Section):
    """A file's hash and its size in bytes."""

    sha256: Sha256
    size: int


class Entry(_Section):
    """One known source: from one of its mirrors, or from the Hub."""

    description: str
    licence: str
    citation: str
    size: int | None = None
    mirrors: list[Mirror] = []
    files: dict[str, File] = {}
    hub: Annotated[str, Field(pattern=f"^{PINNED}$")] | None = None
    on_hub: str | None = None
    columns: tuple[str, ...] | None = None
    label_from_sign: str | None = None
    label_names: tuple[str, str] | None = None


class _Catalogue(_Section):
    models: dict[str, Entry]
    data: dict[str, Entry]


Kind = Literal["models", "data"]


def entries(kind: Kind, path: Path = CATALOGUE) -> dict[str, Entry]:
    """Return the known sources of one kind by name.

    Raises:
        ParamsError: if the catalogue cannot be read.
    """
    try:
        content = YAML(typ="safe", pure=True).load(path.read_text(encoding="utf-8"))
        known: dict[str, Entry] = getattr(_Catalogue.model_validate(content), kind)
    except (OSError, YAMLError, ValueError) as error:
        why = printable(" ".join(str(error).split()), 200)  # pydantic's has the entry
        fix = "correct it, or restore it with git checkout"
        raise ParamsError(f"{path.name}: cannot be read: {why}", fix) from None
    return known


def hub_name(source: str, kind: Kind) -> str | None:
    """Return where the Hub has what `source` names: owner/name or owner/name@revision, or None.

    Raises:
        ParamsError: if the catalogue cannot be read.
    """
    if entry := entries(kind).get(source):
        return entry.on_hub or entry.hub
    return source if re.fullmatch(PINNED, source) else None


def public_name(source: str, kind: Kind) -> str:
    """Return what a source is called outside of this machine: not by its path.

    Raises:
        ParamsError: if the catalogue cannot be read.
    """
    if source in entries(kind) or re.fullmatch(PINNED, source):
        return source
    return "a model folder of its author" if kind == "models" else "files of its author"


def unknown(source: str, kind: Kind, names: list[str]) -> ParamsError:
    """Return the error for a source that is neither a known name, nor a Hub id, nor a path."""
    close = difflib.get_close_matches(source, names, n=1)
    hint = f", did you mean {close[0]}?" if close else ""
    return ParamsError(
        f"{place_of(kind)}: {printable(repr(source))} is no known name and no path{hint}",
        f"use one of {', '.join(names)}, a Hub id owner/name@revision, or a path that exists",
    )


def place_of(kind: Kind) -> str:
    """Return the setting that names a source of this kind."""
    return f"params.yaml: {'model' if kind == 'models' else 'data'}.source"
