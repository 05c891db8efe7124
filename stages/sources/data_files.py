"""Files of labelled data: the endings that are read, patterns, and a folder's splits."""

from __future__ import annotations

import glob
import re
from pathlib import Path

from stages.core.errors import ParamsError, printable
from stages.sources.catalogue import place_of
from stages.sources.hub import SPLITS

FORMATS = {
    ".csv": "csv",
    ".tsv": "tsv",
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
    ".json": "json",
    ".parquet": "parquet",
    ".xlsx": "xlsx",
}
COMPRESSIONS = {".gz": "gzip", ".zst": "zstd"}
ENDINGS = ".csv .tsv .jsonl .json .parquet .xlsx, each also with .gz or .zst"
# A split's file, or one part of several: train, train-00000-of-00002, train_1, test.part2.
PART = re.compile(r"(train|validation|test)((?:[-_.]?(?:part|shard|of)?[-_.]?[0-9]+)*)")


def compression_of(path: Path) -> str | None:
    """Return "gzip", "zstd" or None, by the ending in any case."""
    return COMPRESSIONS.get(path.suffix.lower())


def format_of(path: Path) -> str | None:
    """Return the table's format by the ending below that of a compression, or None."""
    return FORMATS.get(_unpacked(path).suffix.lower())


def is_pattern(source: str) -> bool:
    """Return whether `source` has a wildcard of a file pattern."""
    return any(sign in source for sign in "*?[")


def local_files(path: Path) -> tuple[dict[str, Path], dict[str, tuple[Path, ...]]]:
    """Return the splits of a file, a folder or a pattern, and the files of those with several.

    The first holds for each split its file, or the folder or pattern that its files are named by.

    Raises:
        ParamsError: if nothing is there, an ending is unknown, or a folder does not hold train and
            test, each in one way.
    """
    place = f"{place_of('data')}: {printable(path)}"
    if path.is_file():
        if format_of(path) is None:
            raise ParamsError(
                f"{place}: expected one of {ENDINGS}", "convert the file to one of them"
            )
        return {"all": path}, {}
    if path.is_dir():
        return _folder_splits(path, place)
    if not is_pattern(str(path)):
        raise ParamsError(f"{place}: neither a file nor a folder", f"name a file: {ENDINGS}")
    names = glob.glob(str(path), recursive=True)  # noqa: PTH207  # the pattern may be absolute
    matches = sorted(map(Path, names))
    files = [file for file in matches if file.is_file() and format_of(file)]
    for file in matches:
        if file.is_file() and file not in files:
            print(f"ignored: {printable(file)} has none of the endings {ENDINGS}", flush=True)
    if not files:
        raise ParamsError(
            f"{place}: matches no file with one of the endings {ENDINGS}",
            "correct the pattern, and quote it on a command line",
        )
    return {"all": path}, {"all": tuple(files)}


def _folder_splits(folder: Path, place: str) -> tuple[dict[str, Path], dict[str, tuple[Path, ...]]]:
    splits: dict[str, Path] = {}
    parts: dict[str, tuple[Path, ...]] = {}
    found = _by_split(folder)
    for split, ways in found.items():
        if len(ways) > 1:
            raise ParamsError(
                f"{place}: two files for {split}: {', '.join(files[0].name for files in ways)}",
                "keep one of them",
            )
        (files,) = ways
        if len(files) > 1:
            splits[split], parts[split] = folder / f"{split}*", tuple(files)
        else:
            splits[split] = files[0]
    if missing := [f"{split}.*" for split in ("train", "test") if split not in splits]:
        raise ParamsError(
            f"{place}: holds no {' and no '.join(missing)} ({ENDINGS})",
            "add what is missing, or name a single file, which is then split",
        )
    return splits, parts


def _by_split(folder: Path) -> dict[str, list[list[Path]]]:
    """Return for each split the ways in which it is there: each a file, or the parts of one table.

    A split's own folder and its numbered parts of one ending are one way each.
    """
    ways: dict[str, dict[str, list[Path]]] = {}
    for path in sorted(folder.iterdir()):
        if path.is_dir():
            files = [file for file in sorted(path.iterdir()) if file.is_file() and format_of(file)]
            if path.name in SPLITS and files:
                ways.setdefault(path.name, {})["folder"] = files
        elif path.is_file() and format_of(path):
            stem = _unpacked(path).stem.lower()
            named = PART.fullmatch(stem)
            if named is None:
                print(f"ignored: {printable(path)} is none of {', '.join(SPLITS)}", flush=True)
                continue
            way = f"parts {format_of(path)}" if named[2] else path.name
            ways.setdefault(named[1], {}).setdefault(way, []).append(path)
    return {split: list(found.values()) for split, found in ways.items()}


def _unpacked(path: Path) -> Path:
    return path.with_suffix("") if compression_of(path) else path
