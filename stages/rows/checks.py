"""Turn the tables of a data source into labelled rows, and check each of them.

Nothing is normalised: a text stays as it is. What `drop` allows to leave out is counted.
"""

from __future__ import annotations

import hashlib
import unicodedata
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any

from stages.core.errors import DataError, printable
from stages.core.params import DataParams
from stages.rows.faults import SHOWN, Faults
from stages.rows.tables import read_table
from stages.sources.locate import DataSource

if TYPE_CHECKING:  # heavy libraries are imported once the params have been checked
    import pandas as pd

ORDER = ("test", "validation", "train", "all")  # which copy of a leaked text is kept
ZERO_WIDTH = dict.fromkeys(map(ord, "\u200b\u200c\u200d\u2060\ufeff\u00ad"))


def fold(text: str) -> str:
    """Return the text as a reader sees it: NFKC, case folded, no zero-width, spaces squeezed."""
    if not text.isascii():  # ASCII is its own NFKC and has no zero-width character
        text = unicodedata.normalize("NFKC", text).translate(ZERO_WIDTH)
    return " ".join(text.casefold().split())


def _digest(text: str | None) -> bytes | None:
    """Return what texts that fold alike have in common, in 16 bytes; None for no text.

    16 bytes for two of 10^9 rows that only seem alike have a probability of 10^-21.
    """
    folded = fold(text or "")
    return hashlib.blake2b(folded.encode(), digest_size=16).digest() if folded else None


def row_id(text: str) -> str:
    """Return the row's stable name: the first 16 hex digits of the sha256 of its text."""
    return hashlib.sha256(text.encode("utf-8")).hexdigest()[:16]


def read_rows(source: DataSource, params: DataParams, counts: Counter[str]) -> pd.DataFrame:
    """Return the checked rows of all splits, and print in a line how their files were understood.

    Columns: split, file, line, id, text, label, folded (the same for texts that fold alike), and
    rating and group where there are such.

    Raises:
        DataError: with every fault of the first step that finds one.
    """
    import pandas as pd

    understood: dict[str, list[Path]] = {}
    tables = [
        _read_file(split, file, source, params, counts, understood)
        for split in source.splits
        for file in source.files(split)
    ]
    print(describe_files(understood), flush=True)
    rows = pd.concat(tables, ignore_index=True)
    rows["id"] = [row_id(text) for text in rows["text"]]
    rows = _without_conflicts(rows, params, counts)
    rows = _without_repeats(rows, counts)
    rows = _without_leaks(rows, params, counts)
    _check_groups(rows, params)
    for split, file in source.splits.items():
        if split not in set(rows["split"]):  # otherwise it would be drawn from the others
            raise DataError(
                f"{printable(file)}: no row is left", "give it complete rows of its own"
            )
    return rows


def describe_files(understood: dict[str, list[Path]]) -> str:
    """Return one line that says which files were read, and what was understood of them."""
    kinds = []
    for what, files in understood.items():
        shown = [printable(file) for file in files]
        names = (
            f"{len(files)} files, {shown[0]} to {shown[-1]}" if len(files) > 3 else ", ".join(shown)
        )
        kinds.append(f"{names} ({what})")
    return f"read: {'; '.join(kinds)}"


def _read_file(
    split: str,
    file: Path,
    source: DataSource,
    params: DataParams,
    counts: Counter[str],
    understood: dict[str, list[Path]],
) -> pd.DataFrame:
    """Return one file's complete rows."""
    frame, kind = read_table(file, source, params, counts)
    understood.setdefault(kind, []).append(file if source.is_local else Path(file.name))
    faults = Faults(file)
    folded: list[Any] = [_digest(text) for text in frame["text"]]
    groups = frame["group"] if params.group_column else ["-"] * len(frame)
    keep = []
    for line, seen, label, group in zip(frame["line"], folded, frame["label"], groups, strict=True):
        labelled = bool(label and label.strip())
        complete = bool(seen and labelled and group)  # zero-width characters alone are no text
        keep.append(complete)
        if not complete and params.on_incomplete == "refuse":
            what = "no group" if seen and labelled else "no label" if seen else "empty text"
            faults.add(line, what, "fill it in, or set data.on_incomplete to drop")
        if complete and label is not None and label != label.strip():
            faults.add(line, f"label {printable(repr(label))} has spaces around it", "remove them")
    faults.check()
    counts["rows_incomplete"] += len(keep) - sum(keep)
    return frame.assign(folded=folded, split=split, file=str(file))[keep]


def _pair(group: pd.DataFrame, column: str) -> str:
    """Return the first places where one text has each of two values of `column`."""
    two = group.drop_duplicates(column).head(2)
    return " and ".join(
        f"{printable(file)}:{line}" for file, line in zip(two["file"], two["line"], strict=True)
    )


def _shared(rows: pd.DataFrame, column: str) -> pd.Series[bool]:
    """Return which rows share their folded text across values of `column`."""
    return rows.groupby("folded", sort=False)[column].transform("nunique") > 1


def _report(shared: pd.DataFrame, column: str, what: str, fix: str) -> DataError:
    """Return the error about texts shared across values of `column`, naming the first five."""
    texts = shared["folded"].drop_duplicates()
    first = shared[shared["folded"].isin(texts[:SHOWN])]
    shown = [_pair(group, column) for _, group in first.groupby("folded", sort=False)]
    more = f" and {len(texts) - SHOWN} more" if len(texts) > SHOWN else ""
    return DataError(f"{'; '.join(shown)}{more}: {what}", fix)


def _without_conflicts(
    rows: pd.DataFrame, params: DataParams, counts: Counter[str]
) -> pd.DataFrame:
    several = _shared(rows, "label")
    if several.any() and params.on_conflict == "refuse":  # guard: text with two labels
        raise _report(
            rows[several],
            "label",
            "one text with two labels",
            "correct the labels, or set data.on_conflict to drop to leave out every copy",
        )
    counts["rows_conflict"] += int(several.sum())
    return rows[~several]


def _without_repeats(rows: pd.DataFrame, counts: Counter[str]) -> pd.DataFrame:
    """Keep the first of equal texts within a split: a repeat would count one text twice."""
    repeated = rows.duplicated(["split", "folded"])
    counts["rows_repeated"] += int(repeated.sum())
    return rows[~repeated]


def _without_leaks(rows: pd.DataFrame, params: DataParams, counts: Counter[str]) -> pd.DataFrame:
    several = _shared(rows, "split")
    if several.any() and params.on_leak == "refuse":  # guard: text in two splits
        raise _report(
            rows[several],
            "split",
            "one text in two splits (after case, space and Unicode folding)",
            "remove one copy, or set data.on_leak to drop to keep the test copy",
        )
    rank = rows["split"].map({split: place for place, split in enumerate(ORDER)})
    leaked = rows.assign(rank=rank).sort_values("rank", kind="stable").duplicated("folded")
    counts["rows_leaked"] += int(leaked.sum())
    return rows[~leaked.reindex(rows.index)]


def _check_groups(rows: pd.DataFrame, params: DataParams) -> None:
    """Refuse one group alone, and a group in two splits: a model would know it before the test."""
    if params.group_column is None:
        return
    if rows["group"].nunique() == 1 and len(rows) > 1:
        raise DataError(
            f"params.yaml: data.group_column: {printable(params.group_column)}: all rows are of "
            f"one group, {printable(rows['group'].iloc[0])}, which cannot be split",
            "name the column of what related rows share, or set data.group_column to null",
        )
    splits = rows.groupby("group", sort=False)["split"].nunique()
    shared = [printable(group) for group in splits.index[splits > 1]]
    if shared:  # guard: group in two splits
        one = len(shared) == 1
        more = f" and {len(shared) - SHOWN} more" if len(shared) > SHOWN else ""
        raise DataError(
            f"params.yaml: data.group_column: {printable(params.group_column)}: {len(shared)} "
            f"{'group is' if one else 'groups are'} in two splits: "
            f"{', '.join(shared[:SHOWN])}{more}",
            "keep the rows of a group in one split, or set data.group_column to null",
        )
