"""Read the labelled texts, check every row, and split them into train, validation and test."""

from __future__ import annotations

import re
import tempfile
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any

from stages.core import artefacts, paths
from stages.core.errors import DataError, printable
from stages.core.params import DataParams, Params
from stages.rows import checks as rows
from stages.running.stage import run_stage
from stages.sources.locate import locate_data

if TYPE_CHECKING:  # heavy libraries are imported once the params are known to be right
    import pandas as pd

SPLITS = {"train": paths.TRAIN, "validation": paths.VALIDATION, "test": paths.TEST}
COUNTS = ("source", "neutral", "incomplete", "conflict", "repeated", "leaked", "not_sampled")
PIECE = re.compile(r"\w+|[^\w\s]")


def prepare(params: Params) -> None:
    """Write the three splits, the label list and metrics/data.json; nothing if a check fails."""
    counts: Counter[str] = Counter({f"rows_{name}": 0 for name in COUNTS})
    with tempfile.TemporaryDirectory() as folder:
        source = locate_data(params.data.source, Path(folder))
        checked = rows.read_rows(source, params.data, counts)
        labels = rows.label_list(checked, source)

    kept = sample(checked, params.data.limit, params.data.split_seed)
    counts["rows_not_sampled"] = len(checked) - len(kept)
    splits = split_rows(kept, params.data)
    summary = summarise(splits, labels, params.data.max_length)

    for name, path in SPLITS.items():
        columns = [c for c in ("id", "text", "label", "rating") if c in splits[name]]
        with artefacts.replacing(path) as temporary:
            splits[name][columns].to_parquet(temporary, index=False)
    artefacts.write_json(paths.LABELS, labels)
    summary |= {**counts, "source_sha256": source.sha256}
    artefacts.write_json(paths.DATA_SUMMARY, summary)
    print(describe(summary))


def sample(checked: pd.DataFrame, limit: int | None, seed: int) -> pd.DataFrame:
    """Return at most `limit` rows, drawn evenly over splits and classes, in their order.

    Raises:
        DataError: if so few rows leave out a class or a split.
    """
    from sklearn.model_selection import train_test_split

    if limit is None or limit >= len(checked):
        return checked
    strata = checked["split"] + "\x00" + checked["label"]
    fewest = min(limit, len(checked) - limit)  # both sides of the draw hold every stratum
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

    Drawn evenly over the classes. Shares are of all rows (with groups: of all groups, which stay
    whole); where the source has train and test but no validation split, one is drawn from train,
    and its share is of train.

    Raises:
        DataError: if a class has too few rows, or groups, to stand in every split.
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
        whole = max(round(share * groups), 1) if groups else None
        too_few_groups = whole is not None and whole >= train["group"].nunique()
        if counts.min() < 2 or len(train) - size < len(counts) or too_few_groups:
            raise _too_few(counts.index[-1], kept, params)
        train, parts[name] = draw(train, size, whole, params.split_seed)
        for label in counts.index:  # the draw may leave a rare class out of one side
            if label not in set(train["label"]) & set(parts[name]["label"]):
                raise _too_few(label, kept, params)
    return {"train": train, "validation": parts["validation"], "test": parts["test"]}


def draw(
    rows: pd.DataFrame, size: int, groups: int | None, seed: int
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Return what stays and what is drawn, evenly over the classes: rows, or whole groups.

    Groups cannot be drawn evenly as rows can: the evenest of 20 draws is taken.
    """
    from sklearn.model_selection import GroupShuffleSplit, train_test_split

    if groups is None:
        stays, drawn = train_test_split(
            rows, test_size=size, stratify=rows["label"], random_state=seed
        )
        return stays, drawn
    shares = rows["label"].value_counts(normalize=True)

    def unevenness(places: Any) -> float:
        found = rows["label"].iloc[places[1]].value_counts(normalize=True)
        return float(found.sub(shares, fill_value=0).abs().sum())

    draws = GroupShuffleSplit(20, test_size=groups, random_state=seed)
    stay, go = min(draws.split(rows, groups=rows["group"]), key=unevenness)
    return rows.iloc[stay], rows.iloc[go]


def _too_few(label: str, kept: pd.DataFrame, params: DataParams) -> DataError:
    rows = int((kept["label"] == label).sum())
    return DataError(
        f"{printable(params.source)}: label {printable(label)}: {rows} rows are too few to stand "
        "in train, validation and test",
        "give more rows of it, merge it with another class, raise data.limit, or change "
        "data.test_fraction and data.validation_fraction",
    )


def summarise(
    splits: dict[str, pd.DataFrame], labels: list[str], max_length: int
) -> dict[str, Any]:
    """Return rows and class shares per split, and the lengths of the texts.

    Words and punctuation marks are counted. A word-piece tokenizer makes at least one token of
    each and adds two, so `rows_truncated_at_least` bounds the truncated rows from below.
    """
    from statistics import mean, median

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


if __name__ == "__main__":
    run_stage(prepare)
