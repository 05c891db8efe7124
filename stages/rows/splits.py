"""Which rows are kept, and which of them go into which split: drawn by a seed, evenly by class."""

import re
from collections import Counter
from collections.abc import Iterator, Mapping
from statistics import mean, median
from typing import Any

import numpy as np
import pandas as pd
from sklearn.model_selection import GroupShuffleSplit, train_test_split

from stages.core.errors import DataError, printable
from stages.core.params import DataParams
from stages.rows.labels import fold_label
from stages.rows.prepared import SPLITS
from stages.rows.reading import SHOWN

Array = np.ndarray[Any, Any]


def _to_draw(rows: pd.DataFrame) -> list[str]:
    """Return the splits that the source does not have, in the order in which they are drawn."""
    return [name for name in ("test", "validation") if name not in set(rows["split"])]


def _rare(rows: pd.DataFrame) -> dict[str, int]:
    """Return the classes with too few rows, or groups, for train and each split to be drawn."""
    train = rows[rows["split"].isin(["train", "all"])]
    if "group" in train:
        train = train.drop_duplicates(["label", "group"])
    few = len(_to_draw(rows))
    return {str(label): int(n) for label, n in train["label"].value_counts().items() if n <= few}


def settle_rare(
    rows: pd.DataFrame, params: DataParams, counts: Counter[str]
) -> tuple[pd.DataFrame, dict[str, int]]:
    """Return the rows after `data.on_rare`, and the rows of each class dropped or merged by it.

    A class that looks like another one is left for the check of spellings.
    """
    alike = Counter(map(fold_label, rows["label"].unique()))
    rare = [label for label in _rare(rows) if alike[fold_label(label)] == 1]
    if params.on_rare == "refuse" or not rare:
        return rows, {}
    chosen = rows["label"].isin(rare)
    settled = {str(label): int(n) for label, n in rows.loc[chosen, "label"].value_counts().items()}
    if params.on_rare == "drop":
        counts["rows_rare"] += int(chosen.sum())
        return rows[~chosen], settled
    name = fold_label(params.rare_class)
    there = (label for label in rows["label"].unique() if fold_label(label) == name)
    merged = rows["label"].mask(chosen, next(there, params.rare_class))
    return rows.assign(label=merged), settled


def sample(checked: pd.DataFrame, limit: int | None, seed: int) -> pd.DataFrame:
    """Return at most `limit` rows, drawn in proportion from splits and classes, in their order.

    Of each class as many rows are sure to stay as its splits need.

    Raises:
        DataError: if these are more than the limit.
    """
    if limit is None or limit >= len(checked):
        return checked
    strata = ["split", "label"]
    rows = checked.sample(frac=1, random_state=seed)
    if "group" in rows:  # first a row of each group, since the rows of one stay together
        rows = rows.iloc[np.argsort(rows.duplicated([*strata, "group"]), kind="stable")]
    needed = 1 + len(_to_draw(rows)) * rows["split"].isin(["train", "all"])
    number = rows.groupby(strata, sort=False).cumcount()
    if (sure := int((number < needed).sum())) > limit:
        raise DataError(
            f"params.yaml: data.limit: {limit} rows are too few to have every class in every split",
            f"set data.limit to {sure} or more, or to null",
        )
    # A class's rows are spread from 0 to 1: below any threshold are as many as its share.
    place = (number + 0.5) / rows.groupby(strata, sort=False)["line"].transform("size")
    kept = place.where(number >= needed, 0).sort_values(kind="stable").index[:limit]
    return checked.loc[kept.sort_values()]


def split_rows(kept: pd.DataFrame, params: DataParams) -> dict[str, pd.DataFrame]:
    """Return train, validation and test: the source's own where it has them, else drawn by seed.

    Drawn evenly over the classes, each of which is in every drawn split. Shares are of all rows
    (with groups: of all groups, which are never split); where the source has train and test but no
    validation split, one is drawn from train, and its share is of train.

    Raises:
        DataError: naming all classes that have too few rows, or groups, for that.
    """
    parts = {str(name): part for name, part in kept.groupby("split", sort=False)}
    rest = parts.pop("all", None)
    train = parts.pop("train", rest)
    if train is None:
        raise DataError(f"{params.source}: no rows to train on", "give a train file with rows")
    if rare := _rare(kept):
        raise _too_few(rare, kept, params)
    shares = {"test": params.test_fraction, "validation": params.validation_fraction}
    by_group, to_draw = "group" in train, _to_draw(kept)
    least = 1 if by_group else train["label"].nunique()
    units = train["group"].nunique() if by_group else len(train)
    for later, name in zip(range(len(to_draw), 0, -1), to_draw, strict=True):
        left = train["group"].nunique() if by_group else len(train)
        size = min(max(round(shares[name] * units), least), left - later * least)
        train, parts[name] = draw(train, size, later, params)
    return {"train": train, "validation": parts["validation"], "test": parts["test"]}


def draw(
    rows: pd.DataFrame, size: int, later: int, params: DataParams
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Return what stays and what is drawn, evenly over the classes.

    Each class is in what is drawn, and `later` times in what stays. Groups cannot be drawn as
    evenly as rows: the evenest of 20 draws is taken.

    Args:
        rows: with groups where these must not be divided.
        size: rows to draw, or groups.
        later: splits that are made of what stays.
        params: the seed.

    Raises:
        DataError: naming the classes for which no such draw was found.
    """
    shares = rows["label"].value_counts(normalize=True)
    seed = params.split_seed

    def unevenness(places: Any) -> float:
        drawn = rows["label"].iloc[places[1]].value_counts(normalize=True)
        return float(drawn.sub(shares, fill_value=0).abs().sum())

    units: Array = np.arange(len(rows))
    if "group" in rows:
        splitter = GroupShuffleSplit(20, test_size=size, random_state=seed)
        draws = sorted(splitter.split(rows, groups=rows["group"]), key=unevenness)
        units = pd.factorize(rows["group"])[0]
    else:
        stratify = rows["label"]
        draws = [train_test_split(units, test_size=size, stratify=stratify, random_state=seed)]
    lacking: dict[str, int] = {}
    for stay, go in draws:
        drawn = np.zeros(len(rows), dtype=bool)
        drawn[units[go]] = True
        if not (lacking := _with_every_class(rows["label"], units, drawn, later)):
            order = np.concatenate([stay, go])
            chosen = drawn[units[order]]
            return rows.iloc[order[~chosen]], rows.iloc[order[chosen]]
    raise _too_few(lacking, rows, params)


def _with_every_class(
    labels: "pd.Series[str]", units: Array, drawn: Array, later: int
) -> dict[str, int]:
    """Change `drawn` until each class is in it, and `later` times in the rest.

    Args:
        labels: of each row.
        units: of each row the number of what is drawn as a whole: itself, or its group.
        drawn: of each unit whether it is; changed in place, by as few units as suffice.
        later: see `draw`.

    Returns:
        The classes for which no unit could be moved, and in how many units they are.
    """
    codes, names = pd.factorize(labels)
    pairs = pd.DataFrame({"label": codes, "unit": units}).drop_duplicates()
    of, unit = pairs["label"].to_numpy(), pairs["unit"].to_numpy()
    there = np.bincount(of)
    taken = np.bincount(of[drawn[unit]], minlength=len(there))

    def lacks(label: int) -> bool:
        return bool(taken[label] < 1 or there[label] - taken[label] < later)

    for label in filter(lacks, range(len(there))):
        for candidate in unit[of == label]:
            into = taken[label] < 1
            own = of[unit == candidate]
            spare = there[own] - taken[own] - later if into else taken[own] - 1
            if lacks(label) and drawn[candidate] != into and (spare > 0).all():
                drawn[candidate] = into
                taken[own] += 1 if into else -1
    return {str(names[label]): int(there[label]) for label in filter(lacks, range(len(there)))}


def _too_few(rare: dict[str, int], rows: pd.DataFrame, params: DataParams) -> DataError:
    """Return the error that names all classes with too few rows or groups, and what mends them."""
    needed, unit = 1 + len(_to_draw(rows)), "groups" if "group" in rows else "rows"
    sound = rows["label"].nunique() - len(rare)
    ways = ["drop"] * (sound > 1) + ["merge"] * (sound > 0 and sum(rare.values()) >= needed)
    named = ", ".join(f"{printable(label, 40)} ({n})" for label, n in rare.items())
    fix = f"give at least {needed} {unit} of each"
    if ways := [way for way in ways if way != params.on_rare]:
        fix += f", or set data.on_rare to {' or '.join(ways)}"
    return DataError(
        f"{printable(params.source)}: classes whose {unit} are too few to be in train, validation "
        f"and test: {named}",
        fix,
    )


# Rows by what became of them; all but the first are left out.
COUNTS = (
    "source",
    "skipped",  # by an annotator
    "rejected",
    "neutral",
    "incomplete",
    "conflict",
    "outvoted",
    "repeated",
    "leaked",
    "rare",
    "not_sampled",
)
PIECE = re.compile(r"\w+|[^\w\s]")
FEW_ROWS = 10  # of a class
MOST_CLASSES = 8  # that one line names
# The exact McNemar test needs six changed rows, all for the better, for p < 0.05 (2 / 2^6): ten
# points of fewer than 60 rows are less.
FEWEST_TEST_ROWS = 60


def summarise(
    splits: dict[str, pd.DataFrame], labels: list[str], max_length: int
) -> dict[str, Any]:
    """Return rows and class shares per split, and the lengths of the texts.

    Words and punctuation marks are counted. A word-piece tokenizer makes at least one token of
    each and adds two, so `rows_truncated_at_least` bounds the truncated rows from below.
    """
    texts = [text for part in splits.values() for text in part["text"]]
    shares = {name: part["label"].value_counts(normalize=True) for name, part in splits.items()}
    pieces = [len(PIECE.findall(text)) for text in texts]
    summary: dict[str, Any] = {f"rows_{name}": len(part) for name, part in splits.items()}
    summary["share"] = {
        name: {label: float(share.get(label, 0)) for label in labels}
        for name, share in shares.items()
    }
    return summary | {
        "classes": len(labels),
        "words_mean": round(mean(pieces), 2),
        "words_median": median(pieces),
        "words_max": max(pieces),
        "characters_max": max(map(len, texts)),
        "rows_truncated_at_least": sum(count + 2 > max_length for count in pieces),
    }


def describe(summary: dict[str, Any]) -> str:
    """Return the summary as lines for a person; of many classes the commonest and the rarest."""
    sizes = ", ".join(f"{summary[f'rows_{name}']:,} {name}" for name in SPLITS)
    shares = summary["share"]["train"]
    shown, first = list(shares), "classes"
    if len(shares) > MOST_CLASSES:
        by_size = sorted(shares, key=shares.__getitem__, reverse=True)
        shown, first = [*by_size[:3], *by_size[-3:]], f"{len(shares)} classes"
    named = [f"{printable(label, 40)} {100 * shares[label]:.1f} %" for label in shown]
    if len(shown) < len(shares):
        named.insert(3, "...")
    left_out = ", ".join(
        f"{summary[f'rows_{name}']:,} {name.replace('_', ' ')}"
        for name in COUNTS[1:]
        if summary[f"rows_{name}"]
    )
    lines = [f"rows: {sizes}", f"{first} in train: {', '.join(named)}"]
    if left_out:
        lines.append(f"left out of {summary['rows_source']:,} rows: {left_out}")
    if summary["rows_truncated_at_least"]:
        lines.append(f"at least {summary['rows_truncated_at_least']:,} rows exceed data.max_length")
    return "\n".join(lines)


def notes(
    splits: dict[str, pd.DataFrame],
    labels: list[str],
    counts: Mapping[str, int],
    rare: Mapping[str, int],
    params: DataParams,
) -> Iterator[str]:
    """Yield a line for each thing that was decided by params, or is allowed but rarely meant.

    Args:
        splits: the rows by split, with the columns text and label, and group where there is one.
        labels: the classes.
        counts: rows by what became of them.
        rare: rows of the classes that `settle_rare` dropped or merged.
        params: what decided.
    """
    conflict, outvoted = counts["rows_conflict"], counts["rows_outvoted"]
    if conflict or outvoted:
        agree = counts["labels_agreeing"] / counts["labels_several"]
        yield (
            f"{counts['labels_several']:,} labels are of texts that have several; {100 * agree:.1f}"
            " % of them agree with the commonest of their text"
        )
    if outvoted:
        yield f"{outvoted:,} rows were left out since most labels of their text are another one"
    if conflict:
        why = "contradict each other" if params.on_conflict == "drop" else "tie"
        yield (
            f"{conflict:,} rows were left out since the labels of their text {why}: those are the "
            "hard ones, test rows too, so a score speaks of the easier rest"
        )
    if rare:
        end = f"merged into {printable(params.rare_class, 40)}"
        named = [f"{printable(label, 40)} ({rows})" for label, rows in rare.items()]
        yield (
            f"{len(rare)} classes with too few rows were "
            f"{'left out' if params.on_rare == 'drop' else end}: {_shown(named)}"
        )
    texts = [text for part in splits.values() for text in part["text"]]
    repeated = counts["rows_repeated"]
    if repeated > len(texts) and not (len(params.label_columns) > 1 or outvoted or conflict):
        yield (
            f"{repeated:,} rows repeat the text of another, {len(texts):,} do not: "
            "is data.text_column the right one?"
        )
    counted = Counter(label for part in splits.values() for label in part["label"])
    few = sorted((label for label in counted if counted[label] < FEW_ROWS), key=counted.__getitem__)
    if few:
        rarest = _shown([f"{printable(label, 40)} ({counted[label]})" for label in few])
        yield f"classes with fewer than {FEW_ROWS} rows: {rarest}"
    for name in ("validation", "test"):
        absent = sorted(set(labels) - set(splits[name]["label"]))
        if absent:
            yield (
                f"classes without a row in {name}: {_shown([printable(x, 40) for x in absent])}; "
                f"nothing that {name} chooses or measures speaks of them"
            )
    if (rows := len(splits["test"])) < FEWEST_TEST_ROWS:
        yield (
            f"the test set of {rows} rows is too small to show a gain of ten points "
            f"(p below 0.05 takes {FEWEST_TEST_ROWS} rows or more): give more rows, or raise "
            "data.test_fraction"
        )


def _shown(names: list[str]) -> str:
    more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
    return ", ".join(names[:SHOWN]) + more
