"""Which rows are kept, and which of them go into which split: drawn by a seed, evenly by class."""

from typing import Any

import pandas as pd
from sklearn.model_selection import GroupShuffleSplit, train_test_split

from stages.core.errors import DataError, printable
from stages.core.params import DataParams


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
