"""Which rows are kept, and which of them go into which split: drawn by a seed, evenly by class."""

import re
from collections import Counter
from collections.abc import Iterator
from statistics import mean, median
from typing import Any

import pandas as pd
from sklearn.model_selection import GroupShuffleSplit, train_test_split

from stages.core.errors import DataError, printable
from stages.core.params import DataParams
from stages.rows.prepared import SPLITS
from stages.rows.reading import SHOWN


def sample(checked: pd.DataFrame, limit: int | None, seed: int) -> pd.DataFrame:
    """Return at most `limit` rows, drawn evenly over splits and classes, in their order.

    Raises:
        DataError: if so few rows leave out a class or a split.
    """
    if limit is None or limit >= len(checked):
        return checked
    strata = checked["split"] + "\x00" + checked["label"]
    fewest = min(limit, len(checked) - limit)  # both sides of the draw have every stratum
    even = strata.value_counts().min() >= 2 and fewest >= strata.nunique()
    kept: pd.DataFrame = train_test_split(
        checked, train_size=limit, stratify=strata if even else None, random_state=seed
    )[0]
    if missing := sorted(set(strata) - set(strata[kept.index])):
        split, label = missing[0].split("\x00", 1)
        where = "" if split == "all" else f" in {split}"
        raise DataError(
            f"params.yaml: data.limit: {limit} rows leave out label {printable(label)}{where}",
            "raise data.limit, or set it to null",
        )
    return kept.sort_index()


def split_rows(kept: pd.DataFrame, params: DataParams) -> dict[str, pd.DataFrame]:
    """Return train, validation and test: the source's own where it has them, else drawn by seed.

    Drawn evenly over the classes. Shares are of all rows (with groups: of all groups, which are
    never split); where the source has train and test but no validation split, one is drawn from
    train, and its share is of train.

    Raises:
        DataError: if a class has too few rows, or groups, to be in every split.
    """
    parts = {str(name): part for name, part in kept.groupby("split", sort=False)}
    rest = parts.pop("all", None)
    train = parts.pop("train", rest)
    if train is None:
        raise DataError(f"{params.source}: no rows to train on", "give a train file with rows")
    rows_to_split = len(train)
    groups = train["group"].nunique() if "group" in train else 0
    for name, share in (("test", params.test_fraction), ("validation", params.validation_fraction)):
        if name in parts:
            continue
        counts = train["label"].value_counts()
        size = max(round(share * rows_to_split), len(counts))
        group_count = max(round(share * groups), 1) if groups else None
        too_few_groups = group_count is not None and group_count >= train["group"].nunique()
        if counts.min() < 2 or len(train) - size < len(counts) or too_few_groups:
            raise _too_few(counts.index[-1], kept, params)
        train, parts[name] = draw(train, size, group_count, params.split_seed)
        for label in counts.index:  # the draw may leave a rare class out of one side
            if label not in set(train["label"]) & set(parts[name]["label"]):
                raise _too_few(label, kept, params)
    return {"train": train, "validation": parts["validation"], "test": parts["test"]}


def draw(
    rows: pd.DataFrame, size: int, groups: int | None, seed: int
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Return what stays and what is drawn, evenly over the classes: rows, or complete groups.

    Groups cannot be drawn evenly as rows can: the evenest of 20 draws is taken.
    """
    if groups is None:
        stays, drawn = train_test_split(
            rows, test_size=size, stratify=rows["label"], random_state=seed
        )
        return stays, drawn
    shares = rows["label"].value_counts(normalize=True)

    def unevenness(places: Any) -> float:
        drawn = rows["label"].iloc[places[1]].value_counts(normalize=True)
        return float(drawn.sub(shares, fill_value=0).abs().sum())

    draws = GroupShuffleSplit(20, test_size=groups, random_state=seed)
    stay, go = min(draws.split(rows, groups=rows["group"]), key=unevenness)
    return rows.iloc[stay], rows.iloc[go]


def _too_few(label: str, kept: pd.DataFrame, params: DataParams) -> DataError:
    rows = int((kept["label"] == label).sum())
    return DataError(
        f"{printable(params.source)}: label {printable(label)}: {rows} rows are too few to be "
        "in train, validation and test",
        "give more rows of it, merge it with another class, raise data.limit, or change "
        "data.test_fraction and data.validation_fraction",
    )


# Rows by what became of them; all but the first are left out.
COUNTS = (
    "source",
    "skipped",  # by an annotator
    "rejected",
    "neutral",
    "incomplete",
    "conflict",
    "repeated",
    "leaked",
    "not_sampled",
)
PIECE = re.compile(r"\w+|[^\w\s]")
HTML = re.compile(
    r"&(?:amp|lt|gt|quot|apos|nbsp|#[0-9]{1,7}|#x[0-9a-fA-F]{1,6});"
    r"|</?(?:a|b|br|div|em|font|h[1-6]|i|img|li|p|pre|span|strong|table|td|tr|u|ul)(?:\s[^<>]*)?/?>",
    re.IGNORECASE,
)
NUMBER = re.compile(r"[-+]?[0-9]+(?:[.,][0-9]+)?")
MANY = 0.05  # share of the texts with html from which it is no chance
FEW_ROWS = 10  # of a class
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
    pieces = [len(PIECE.findall(text)) for text in texts]
    summary: dict[str, Any] = {f"rows_{name}": len(part) for name, part in splits.items()}
    summary["share"] = {
        name: {label: float((part["label"] == label).mean()) for label in labels}
        for name, part in splits.items()
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
    """Return the summary as lines for a person."""
    sizes = ", ".join(f"{summary[f'rows_{name}']:,} {name}" for name in SPLITS)
    shares = ", ".join(
        f"{printable(label)} {100 * share:.1f} %"
        for label, share in summary["share"]["train"].items()
    )
    left_out = ", ".join(
        f"{summary[f'rows_{name}']:,} {name.replace('_', ' ')}"
        for name in COUNTS[1:]
        if summary[f"rows_{name}"]
    )
    lines = [f"rows: {sizes}", f"classes in train: {shares}"]
    if left_out:
        lines.append(f"left out of {summary['rows_source']:,} rows: {left_out}")
    if summary["rows_truncated_at_least"]:
        lines.append(f"at least {summary['rows_truncated_at_least']:,} rows exceed data.max_length")
    return "\n".join(lines)


def notes(splits: dict[str, pd.DataFrame], labels: list[str], repeated: int) -> list[str]:
    """Return a line for each thing that is allowed in the data but rarely meant.

    Args:
        splits: the rows by split, with the columns text and label, and group where there is one.
        labels: the classes.
        repeated: how many rows were left out since their text is that of another row.
    """
    return [f"note: {note}" for note in _notes(splits, labels, repeated)]


def _notes(splits: dict[str, pd.DataFrame], labels: list[str], repeated: int) -> Iterator[str]:
    texts = [text for part in splits.values() for text in part["text"]]
    with_html = [found[0] for text in texts if (found := HTML.search(text))]
    if len(with_html) > MANY * len(texts):
        yield (
            f"{100 * len(with_html) / len(texts):.0f} % of the texts hold html, such as "
            f"{printable(with_html[0], 40)}; they are read as they are"
        )
    numbers = sum(bool(NUMBER.fullmatch(text.strip())) for text in texts)
    if numbers > len(texts) / 2:
        yield f"{numbers:,} of {len(texts):,} texts are numbers: is data.text_column the right one?"
    if repeated > len(texts):
        yield (
            f"{repeated:,} rows repeat the text of another, {len(texts):,} do not: "
            "is data.text_column the right one?"
        )
    counted = Counter(label for part in splits.values() for label in part["label"])
    rare = [f"{printable(label)} ({rows})" for label, rows in counted.items() if rows < FEW_ROWS]
    if rare:
        yield f"classes with fewer than {FEW_ROWS} rows: {_shown(sorted(rare))}"
    for name in ("validation", "test"):
        absent = sorted(set(labels) - set(splits[name]["label"]))
        if absent:
            yield (
                f"classes without a row in {name}: {_shown([printable(x) for x in absent])}; "
                f"nothing that {name} chooses or measures speaks of them"
            )
    groups = [part["group"].is_unique for part in splits.values() if "group" in part]
    if groups and all(groups):
        yield "data.group_column: each row has a group of its own, so it changes nothing"
    if twins := _twins(labels):
        yield f"classes that differ in spaces or signs alone: {_shown(twins)}"
    if (rows := len(splits["test"])) < FEWEST_TEST_ROWS:
        yield (
            f"the test set of {rows} rows is too small to show a gain of ten points "
            f"(p below 0.05 takes {FEWEST_TEST_ROWS} rows or more): give more rows, or raise "
            "data.test_fraction"
        )


def _twins(labels: list[str]) -> list[str]:
    """Return the pairs of classes that are the same letters and digits."""
    first: dict[str, str] = {}
    pairs = []
    for label in labels:
        letters = "".join(c for c in label.casefold() if c.isalnum())
        if letters and letters in first:
            pairs.append(f"{printable(repr(first[letters]))} and {printable(repr(label))}")
        first.setdefault(letters, label)
    return pairs


def _shown(names: list[str]) -> str:
    more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
    return ", ".join(names[:SHOWN]) + more
