"""Read a table of texts: the columns that matter, every fault with its line numbers."""

from __future__ import annotations

import difflib
from pathlib import Path

import pandas as pd

from stages.core.errors import DataError, printable
from stages.rows.faults import Faults
from stages.rows.formats import read_file

ENDINGS = (".csv", ".tsv", ".jsonl", ".parquet")


def read_table(
    path: Path,
    text_column: str,
    label_column: str | None = None,
    columns: tuple[str, ...] | None = None,
    group_column: str | None = None,
) -> pd.DataFrame:
    """Return the rows of a file as columns line, text, label, [group], and the file's others.

    `line` counts from 1 as an editor does (in parquet: rows). Text and label are verbatim, and
    None where the file has nothing. With `columns` the file is tab-separated without a header and
    without quoting.

    Raises:
        DataError: with every fault of the file: encoding, ragged rows, missing columns.
    """
    frame = read_file(path, columns)
    named_columns = {"text": text_column, "label": label_column, "group": group_column}
    wanted = {new: old for new, old in named_columns.items() if old}
    for name in wanted.values():
        if name not in frame.columns:
            raise _no_column(path, name, list(frame.columns))
    lines, frame = list(frame.index), frame.reset_index(drop=True)
    named = pd.DataFrame({"line": lines} | {new: frame[old] for new, old in wanted.items()})
    others = frame.drop(columns=[*wanted.values()])
    clash = others.columns.intersection(named.columns)
    result = pd.concat([named, others.drop(columns=clash)], axis=1)
    faults = Faults(path)
    for line, text in zip(result["line"], result["text"], strict=True):
        if isinstance(text, str) and "\x00" in text:
            faults.add(line, "holds a NUL character", "remove it; the file may be binary")
        elif isinstance(text, str) and not (text.isascii() or _encodes(text)):
            faults.add(line, "holds half of a surrogate pair", "write the complete character")
        elif text is not None and not isinstance(text, str):
            faults.add(line, "the text is not a string", "quote it, or set data.text_column")
    for line, label in zip(result["line"], result["label"] if label_column else (), strict=False):
        if isinstance(label, str) and ("\x00" in label or not _encodes(label)):
            what = "the label holds a NUL character or half of a surrogate pair"
            faults.add(line, what, "spell it with complete characters")
    faults.check()
    return result


def _encodes(text: str) -> bool:
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        return False
    return True


def _no_column(path: Path, name: str, there: list[str]) -> DataError:
    close = difflib.get_close_matches(name, there, n=1)
    hint = f", did you mean {printable(close[0])}?" if close else ""
    return DataError(
        f"{printable(path)}: line 1: no column {printable(name)}{hint}",
        f"name one of its columns: {printable(', '.join(there), 200)}",
    )
