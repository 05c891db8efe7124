"""Turn the files of a data source into labelled rows, and check each of them.

Nothing is normalised: a text stays as it is. What the params allow to leave out is counted.
"""

import hashlib
import math
from collections import Counter
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pandas as pd

from stages.core.errors import DataError, printable
from stages.core.params import DataParams
from stages.rows.labels import NoValueError, fold, fold_label, label_of, text_of
from stages.rows.reading import SHOWN, Faults, open_table
from stages.sources.locate import DataSource, labels_beside

ORDER = ("test", "validation", "train", "all")  # which copy of a leaked text is kept
COLUMNS = ["line", "text", "label", "folded", "rating", "group"]


def _digest(text: str | None) -> bytes | None:
    """Return what texts that fold alike have in common, in 16 bytes; None for no text.

    16 bytes for two of 10^9 rows that only seem alike have a probability of 10^-21.
    """
    folded = fold(text or "")
    return hashlib.blake2b(folded.encode(), digest_size=16).digest() if folded else None


def row_id(text: str) -> str:
    """Return the row's stable name: the first 16 hex digits of the sha256 of its text."""
    return hashlib.sha256(text.encode("utf-8")).hexdigest()[:16]


def read_rows(
    source: DataSource, params: DataParams, counts: Counter[str]
) -> tuple[pd.DataFrame, list[str]]:
    """Return the checked rows of all splits, and what there is to note about reading them.

    Prints in a line how their files were understood. Of a text with several labels each is a row.

    Columns: split, file, line, id, text, label, folded (the same for texts that fold alike), and
    rating and group (folded) where there are such. `line` counts from 1 as an editor does (in
    parquet and in a .json array: rows).

    Args:
        source: where the rows are.
        params: which columns to read, and what to do with faulty rows.
        counts: takes the rows by what became of them; and `labels_several`, the labels of texts
            that have more than one, and how many of these agree with most, `labels_agreeing`.

    Raises:
        DataError: with every fault of the first step that finds one.
    """
    understood: dict[str, list[str]] = {}
    tables, notes = [], list[str]()
    for split in source.splits:
        for file in source.splits[split]:
            table, kind, said = _read_file(file, source, params, counts)
            notes += said
            understood.setdefault(kind, []).append(str(file) if source.is_local else file.name)
            tables.append(table.assign(split=split))
    for kind, files in understood.items():
        print(f"read: {printable(', '.join(files), 200)} ({kind})", flush=True)
    rows = pd.concat(tables, ignore_index=True)
    tables.clear()  # their memory is needed below
    rows = _one_label_each(rows, params, counts)
    repeated = rows.duplicated(["split", "folded"])  # a repeat would count one text twice
    counts["rows_repeated"] += int(repeated.sum())
    rows = _without_leaks(rows[~repeated], params, counts)
    _check_groups(rows, params)
    for split, own in source.splits.items():
        if split not in set(rows["split"]):  # otherwise it would be drawn from the others
            named = printable(", ".join(map(str, own)), 200)
            raise DataError(f"{named}: no row is left", "give it complete rows of its own")
    return rows.assign(id=[row_id(text) for text in rows["text"]]), notes


def _read_file(
    file: Path, source: DataSource, params: DataParams, counts: Counter[str]
) -> tuple[pd.DataFrame, str, list[str]]:
    """Return one file's complete rows, what was understood of it, and what there is to note."""
    faults, gaps = Faults(file), Faults(file)
    labels = [source.label_from_sign] if source.label_from_sign else params.label_columns
    names = [params.text_column, *labels, *([params.group_column] if params.group_column else [])]
    of_one = len(labels) == 1
    table = open_table(file, names, faults, source.columns, params.header, labelled=of_one)
    gaps.names = faults.names
    read = _rows(table.rows, source, params, (faults, gaps), counts)
    rows = pd.DataFrame(list(read), columns=COLUMNS, dtype=object)
    for reason, answers in table.left_out.items():
        counts.update({f"rows_{reason}": answers, "rows_source": answers})
    faults.check()  # what cannot be read comes before what is not there
    gaps.check()
    unused = ["rating"] * (not source.label_from_sign) + ["group"] * (not params.group_column)
    rows = rows.drop(columns=unused)
    kinds = {"line": "int64", "rating": "float64"}
    rows = rows.astype({name: kinds[name] for name in rows if name in kinds})
    if faults.names:  # a row is a file
        rows["file"] = [str(file / faults.names[line - 1]) for line in rows["line"]]
        return rows.assign(line=1), table.understood, table.notes
    return rows.assign(file=str(file)), table.understood, table.notes


def _rows(
    cells: Iterator[tuple[int, list[Any]]],
    source: DataSource,
    params: DataParams,
    notes: tuple[Faults, Faults],
    counts: Counter[str],
) -> Iterator[tuple[int, str, str, bytes, float | None, str]]:
    """Yield the COLUMNS of each complete row. Texts are verbatim, labels in their one spelling.

    A row whose rating is 0 has no label: it is counted, and left out.
    """
    faults, gaps = notes
    beside = labels_beside(faults.path)
    unlabelled = f"no label in {printable(beside.name)}" if beside else "no label"
    readers = [partial(label_of, names=source.label_names, column=x) for x in params.label_columns]
    negative, positive = source.label_names or ("negative", "positive")
    for line, (cell, *others) in cells:
        text = _read(text_of, cell, line, faults)
        group = _read(label_of, others.pop(), line, faults) if params.group_column else None
        rating, labels = None, list[str | None]()
        if source.label_from_sign:
            rating = _number(others[0])
            if not math.isfinite(rating):
                what = f"{source.label_from_sign} is not a finite number"
                faults.add(line, what, "write a number")
            elif rating == 0:
                counts.update(("rows_source", "rows_neutral"))
                continue
            labels = [positive if rating > 0 else negative]
        else:
            pairs = zip(readers, others, strict=True)
            labels = [_read(read, other, line, faults) for read, other in pairs]
        folded, group = _digest(text), fold(group or "")
        given = [label for label in labels if label and fold_label(label)]
        what = "no group" if params.group_column and not group else ""
        what = what if given else unlabelled
        what = what if folded else "empty text"  # unseen characters alone are no text
        counts["rows_source"] += max(len(given), 1)
        if text is None or folded is None or what:
            counts["rows_incomplete"] += max(len(given), 1)
            if params.on_incomplete == "refuse":
                gaps.add(line, what, "fill it in, or set data.on_incomplete to drop")
            continue
        for label in given:
            if label != label.strip():
                what = f"label {printable(repr(label))} has spaces around it"
                gaps.add(line, what, "remove them")
            yield line, text, label, folded, rating, group


def _read(read: Callable[[Any], str | None], value: Any, line: int, faults: Faults) -> str | None:
    """Return what `read` makes of a cell; note a fault of it, and return None."""
    try:
        return read(value)
    except NoValueError as error:
        faults.add(line, error.what, error.fix)
        return None


def _number(value: Any) -> float:
    """Return the number, or NaN if it is none."""
    try:
        return float(value)
    except (TypeError, ValueError):
        return math.nan


def _report(shared: pd.DataFrame, column: str, what: str, fix: str) -> DataError:
    """Return the error about texts shared across values of `column`, with two places for each."""
    texts = shared["folded"].drop_duplicates()
    first = shared[shared["folded"].isin(texts[:SHOWN])]
    shown = []
    for _, group in first.groupby("folded", sort=False):
        two = group.drop_duplicates(column).head(2)
        places = [f"{printable(f)}:{n}" for f, n in zip(two["file"], two["line"], strict=True)]
        shown.append(" and ".join(dict.fromkeys(places)))
    more = f" and {len(texts) - SHOWN} more" if len(texts) > SHOWN else ""
    return DataError(f"{'; '.join(shown)}{more}: {what}", fix)


def _one_label_each(rows: pd.DataFrame, params: DataParams, counts: Counter[str]) -> pd.DataFrame:
    """Return the rows without those that their text's other labels contradict."""
    several = rows[rows.duplicated("folded", keep=False)]
    text, label = several["folded"], several["label"].map(fold_label)
    votes = label.groupby([text, label]).transform("size")
    best = votes.groupby(text).transform("max")
    contested = votes < label.groupby(text).transform("size")
    if contested.any() and params.on_conflict == "refuse":  # guard: text with two labels
        raise _report(
            several[contested],
            "label",
            "one text with two labels",
            "correct the labels, or set data.on_conflict to drop to leave out every copy, or to "
            "majority to keep the commonest label",
        )
    tied = (votes == best).groupby(text).transform("sum") > best
    undecided = contested if params.on_conflict == "drop" else tied
    lost = undecided | (votes < best)
    counts.update(rows_conflict=int(undecided.sum()), rows_outvoted=int((lost & ~undecided).sum()))
    agreeing = int(best[~text.duplicated()].sum())
    counts.update(labels_several=len(several), labels_agreeing=agreeing)
    return rows.drop(index=several.index[lost])


def _without_leaks(rows: pd.DataFrame, params: DataParams, counts: Counter[str]) -> pd.DataFrame:
    several = rows[rows.duplicated("folded", keep=False)]  # each split has a text once by now
    if len(several) and params.on_leak == "refuse":  # guard: text in two splits
        raise _report(
            several,
            "split",
            "one text in two splits (after case, space and Unicode folding)",
            "remove one copy, or set data.on_leak to drop to keep the test copy",
        )
    rank = several["split"].map({split: place for place, split in enumerate(ORDER)})
    kept = several.loc[rank.sort_values(kind="stable").index].drop_duplicates("folded")
    leaked = several.index.difference(kept.index)
    counts["rows_leaked"] += len(leaked)
    return rows.drop(index=leaked)


def _check_groups(rows: pd.DataFrame, params: DataParams) -> None:
    """Refuse a group in two splits: a model would know it before the test."""
    if params.group_column is None:
        return
    place = f"params.yaml: data.group_column: {printable(params.group_column)}"
    splits = rows.groupby("group", sort=False)["split"].nunique()
    shared = [printable(group) for group in splits.index[splits > 1]]
    if shared:  # guard: group in two splits
        more = f" and {len(shared) - SHOWN} more" if len(shared) > SHOWN else ""
        raise DataError(
            f"{place}: groups in two splits: {', '.join(shared[:SHOWN])}{more}",
            "keep the rows of a group in one split, or set data.group_column to null",
        )
