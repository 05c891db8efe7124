"""Turn the files of a data source into labelled rows, and check each of them.

Nothing is normalised: a text stays as it is. What `drop` allows to leave out is counted.
"""

import hashlib
import math
import unicodedata
from collections import Counter
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pandas as pd

from stages.core.errors import DataError, printable
from stages.core.params import DataParams
from stages.rows.labels import NoValueError, label_of, text_of
from stages.rows.reading import SHOWN, Faults, open_table
from stages.sources.locate import DataSource

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
    rating and group where there are such. `line` counts from 1 as an editor does (in parquet and
    in a .json array: rows).

    Args:
        source: where the rows are.
        params: which columns to read, and what to do with faulty rows.
        counts: takes the rows by what became of them.

    Raises:
        DataError: with every fault of the first step that finds one.
    """
    understood: dict[str, list[str]] = {}
    tables = []
    for split in source.splits:
        for file in source.files(split):
            table, kind = _read_file(file, source, params, counts)
            understood.setdefault(kind, []).append(str(file) if source.is_local else file.name)
            tables.append(table.assign(split=split, file=str(file)))
    for kind, files in understood.items():
        print(f"read: {printable(', '.join(files), 200)} ({kind})", flush=True)
    rows = pd.concat(tables, ignore_index=True)
    rows["id"] = [row_id(text) for text in rows["text"]]
    rows = _without_conflicts(rows, params, counts)
    repeated = rows.duplicated(["split", "folded"])  # a repeat would count one text twice
    counts["rows_repeated"] += int(repeated.sum())
    rows = _without_leaks(rows[~repeated], params, counts)
    _check_groups(rows, params)
    for split, file in source.splits.items():
        if split not in set(rows["split"]):  # otherwise it would be drawn from the others
            raise DataError(
                f"{printable(file)}: no row is left", "give it complete rows of its own"
            )
    return rows


def _read_file(
    file: Path, source: DataSource, params: DataParams, counts: Counter[str]
) -> tuple[pd.DataFrame, str]:
    """Return one file's complete rows, and what was understood of it."""
    faults = Faults(file)
    names = [params.text_column, source.label_from_sign or params.label_column]
    names += [params.group_column] if params.group_column else []
    table = open_table(file, names, faults, source.columns, params.header, labelled=True)
    read = list(_rows(table.rows, source, params, faults, counts))
    for reason, answers in table.left_out.items():
        counts[f"rows_{reason}"] += answers
        counts["rows_source"] += answers
    for note in table.notes:
        print(f"note: {note}", flush=True)
    rows = pd.DataFrame(read, columns=["line", "text", "label", "rating", "group"], dtype=object)
    rows = rows.astype({"line": "int64", "rating": "float64"})
    faults.check()  # what cannot be read comes before what is not there
    rows["folded"] = [_digest(text) for text in rows["text"]]
    keep = []
    row: Any  # pandas knows the columns' types, not those of a row's fields
    for row in rows.itertuples():
        labelled = bool(row.label and row.label.strip())
        # Zero-width characters alone are no text.
        complete = bool(row.folded and labelled and (row.group or not params.group_column))
        keep.append(complete)
        if not complete and params.on_incomplete == "refuse":
            what = "no group" if row.folded and labelled else "no label"
            what = what if row.folded else "empty text"
            faults.add(row.line, what, "fill it in, or set data.on_incomplete to drop")
        if complete and row.label != row.label.strip():
            what = f"label {printable(repr(row.label))} has spaces around it"
            faults.add(row.line, what, "remove them")
    faults.check()
    counts["rows_incomplete"] += len(keep) - sum(keep)
    unused = ["rating"] * (not source.label_from_sign) + ["group"] * (not params.group_column)
    return rows[keep].drop(columns=unused), table.understood


def _rows(
    cells: Iterator[tuple[int, list[Any]]],
    source: DataSource,
    params: DataParams,
    faults: Faults,
    counts: Counter[str],
) -> Iterator[tuple[int, str | None, str | None, float | None, str | None]]:
    """Yield line, text, label, rating and group, each None where the file has nothing.

    Texts are verbatim, labels and groups in their one spelling. A row whose rating is 0 has no
    label: it is counted, and left out.
    """
    named = partial(label_of, names=source.label_names, column=params.label_column)
    for line, (text, label, *group) in cells:
        counts["rows_source"] += 1
        read_text = _read(text_of, text, line, faults)
        rating = None
        if source.label_from_sign:
            rating = _number(label)
            if not math.isfinite(rating):
                what = f"{source.label_from_sign} is not a finite number"
                faults.add(line, what, "write a number")
            elif rating == 0:
                counts["rows_neutral"] += 1
                continue
            negative, positive = source.label_names or ("negative", "positive")
            label = positive if rating > 0 else negative
        read_label = label if source.label_from_sign else _read(named, label, line, faults)
        read_group = _read(label_of, group[0], line, faults) if group else None
        yield line, read_text, read_label, rating, read_group


def _read(read: Callable[[Any], str | None], value: Any, line: int, faults: Faults) -> str | None:
    """Return what `read` makes of a cell; note a fault of it, and return None."""
    try:
        text = read(value)
    except NoValueError as error:
        faults.add(line, error.what, error.fix)
        return None
    if text and "\x00" in text:
        faults.add(line, "holds a NUL character", "remove it; the file may be binary")
    elif text and not text.isascii() and any("\ud800" <= c <= "\udfff" for c in text):
        faults.add(line, "holds half of a surrogate pair", "write the complete character")
    return text


def _number(value: Any) -> float:
    """Return the number, or NaN if it is none."""
    try:
        return float(value)
    except (TypeError, ValueError):
        return math.nan


def _shared(rows: pd.DataFrame, column: str) -> "pd.Series[bool]":
    """Return which rows share their folded text across values of `column`."""
    return rows.groupby("folded", sort=False)[column].transform("nunique") > 1


def _report(shared: pd.DataFrame, column: str, what: str, fix: str) -> DataError:
    """Return the error about texts shared across values of `column`, with two places for each."""
    texts = shared["folded"].drop_duplicates()
    first = shared[shared["folded"].isin(texts[:SHOWN])]
    shown = []
    for _, group in first.groupby("folded", sort=False):
        two = group.drop_duplicates(column).head(2)
        places = zip(two["file"], two["line"], strict=True)
        shown.append(" and ".join(f"{printable(file)}:{line}" for file, line in places))
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
    place = f"params.yaml: data.group_column: {printable(params.group_column)}"
    if rows["group"].nunique() == 1 and len(rows) > 1:
        raise DataError(
            f"{place}: all rows are of one group, {printable(rows['group'].iloc[0])}, which "
            "cannot be split",
            "name the column of what related rows share, or set data.group_column to null",
        )
    splits = rows.groupby("group", sort=False)["split"].nunique()
    shared = [printable(group) for group in splits.index[splits > 1]]
    if shared:  # guard: group in two splits
        more = f" and {len(shared) - SHOWN} more" if len(shared) > SHOWN else ""
        raise DataError(
            f"{place}: {len(shared)} {'group is' if len(shared) == 1 else 'groups are'} in two "
            f"splits: {', '.join(shared[:SHOWN])}{more}",
            "keep the rows of a group in one split, or set data.group_column to null",
        )
