"""Rows drawn into splits, rare classes, limits, and what is said of the prepared rows."""

import itertools
from collections import Counter
from typing import Any

import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stages.core.errors import DataError
from stages.rows.splits import COUNTS, describe, notes, sample, split_rows, summarise
from tests.support.tables import Rows, assert_not_prepared, official, sizes, summary, table
from tests.support.tiny import params_for

TWO: Rows = [(f"text {number}", "pos" if number % 2 else "neg") for number in range(60)]
MANY: Rows = [(f"text {number}", "pos" if number % 2 else "neg") for number in range(600)]
NONE = {f"rows_{name}": 0 for name in COUNTS}


def few(label: str, rows: int) -> Rows:
    return [(f"{label} number {number}", label) for number in range(rows)]


def classes() -> dict[str, Counter[str]]:
    """Return the rows of each class in each split that was written."""
    names = ("train", "validation", "test")
    return {name: Counter(pd.read_parquet(f"data/{name}.parquet")["label"]) for name in names}


# Sizes


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({}, (48, 6, 6)),
        ({"limit": 59}, (47, 6, 6)),
        ({"limit": 30}, (24, 3, 3)),
        ({"limit": 1000}, (48, 6, 6)),
        ({"test_fraction": 0.7}, (12, 6, 42)),
    ],
)
def test_the_shares_of_the_splits(changes: Any, expected: tuple[int, int, int]) -> None:
    assert sizes(table(TWO), **changes) == expected
    assert all(set(found) == {"pos", "neg"} for found in classes().values())


def test_validation_is_a_share_of_train_however_large_test_is() -> None:
    test: Rows = [(f"new {number}", "pos" if number % 2 else "neg") for number in range(400)]
    source = official(train=TWO, test=test)
    assert sizes(source) == (54, 6, 400)
    assert sizes(source, limit=46) == (4, 2, 40)


# Rare classes


def test_a_class_of_few_rows_in_train_is_in_the_drawn_validation() -> None:
    train = [row for n in range(12) for row in few(f"train {n}", 40 if n else 5)]
    test = [(f"new {text}", label) for n in range(12) for text, label in few(f"train {n}", 5)]
    sizes(official(train=train, test=test))
    assert all(len(part) == 12 for part in classes().values())


RARE = [*MANY, *few("one", 1), *few("two", 2), *few("three", 3)]


def test_all_rare_classes_are_named_in_one_message() -> None:
    fault = assert_not_prepared(table(RARE))
    assert fault.count("\n") == 0
    assert "too few to be in train, validation and test: two (2), one (1). Fix: give at l" in fault
    assert fault.endswith("give at least 3 rows of each, or set data.on_rare to drop or merge")
    # What would not help is not offered.
    fault = assert_not_prepared(table([*few("a", 2), *few("b", 2)]))
    assert fault.endswith("Fix: give at least 3 rows of each")
    fault = assert_not_prepared(table([*few("a", 9), *few("b", 2)]))
    assert fault.endswith("Fix: give at least 3 rows of each")


def test_rare_classes_are_dropped_and_named(capsys: pytest.CaptureFixture[str]) -> None:
    sizes(table(RARE), on_rare="drop")
    assert summary()["rows_rare"] == 3
    assert summary()["rare_classes"] == {"one": 1, "two": 2}
    assert set(summary()["share"]["train"]) == {"pos", "neg", "three"}
    (note,) = [line for line in summary()["notes"] if "too few rows" in line]
    assert note == "2 classes with too few rows were left out: two (2), one (1)"
    assert f"note: {note}\n" in capsys.readouterr().out


@pytest.mark.parametrize(("name", "expected"), [("other", "other"), ("POS", "pos")])
def test_rare_classes_are_merged_into_a_new_class_or_one_of_the_data(
    name: str, expected: str
) -> None:
    sizes(table(RARE), on_rare="merge", rare_class=name)
    assert summary()["rows_rare"] == 0
    assert summary()["rare_classes"] == {"one": 1, "two": 2}
    assert set(summary()["share"]["test"]) == {"pos", "neg", "three", expected}
    assert sum(part[expected] for part in classes().values()) == (303 if expected == "pos" else 3)
    assert "2 classes with too few rows were merged into" in summary()["notes"][0]


def test_a_merged_class_that_is_still_too_small_is_refused_with_what_helps() -> None:
    fault = assert_not_prepared(table([*MANY, *few("two", 2)]), on_rare="merge")
    assert "too few to be in train, validation and test: other (2)" in fault
    assert fault.endswith("Fix: give at least 3 rows of each, or set data.on_rare to drop")


@pytest.mark.parametrize("on_rare", ["drop", "merge"])
def test_a_misspelling_is_no_rare_class(on_rare: str) -> None:
    fault = assert_not_prepared(table([*MANY, ("new", "Pos")]), on_rare=on_rare)
    assert "label Pos differs from another in case, spaces or unseen characters alone" in fault


def with_groups(labels: dict[str, str]) -> pd.DataFrame:
    """Return rows of the groups, each with a row for each letter of its labels."""
    rows = [(group, label) for group, own in labels.items() for label in own]
    frame = pd.DataFrame(rows, columns=["group", "label"])
    frame["line"] = range(len(frame))
    return frame.assign(split="all", text=frame["line"].astype(str))


def test_a_class_of_three_groups_is_in_every_split_whole() -> None:
    groups = {f"film {n}": "ab" * 3 for n in range(40)} | {f"rare {n}": "abc" for n in range(3)}
    parts = split_rows(with_groups(groups), params_for("mine").data)
    found = {name: set(part["group"]) for name, part in parts.items()}
    assert all(set(part["label"]) == set("abc") for part in parts.values())
    assert not any(one & other for one, other in itertools.combinations(found.values(), 2))
    assert sum(map(len, parts.values())) == 40 * 6 + 3 * 3


def test_a_class_of_fewer_groups_is_refused_by_groups() -> None:
    groups = {f"film {n}": "ab" for n in range(40)} | {"rare 1": "cccc", "rare 2": "cccc"}
    with pytest.raises(DataError, match=r"groups are too few.*: c \(2\)\. Fix: give at least 3 gr"):
        split_rows(with_groups(groups), params_for("mine").data)


@settings(max_examples=60, deadline=None)
@given(
    counts=st.lists(st.integers(3, 40), min_size=2, max_size=12),
    test=st.floats(0.01, 0.6),
    validation=st.floats(0.01, 0.25),
    limit=st.none() | st.integers(20, 100),
    size=st.integers(1, 3),
)
def test_no_draw_and_no_limit_makes_a_class_vanish(
    counts: list[int], test: float, validation: float, limit: int | None, size: int
) -> None:
    labels = [f"c{n}" for n, rows in enumerate(counts) for _ in range(rows)]
    frame = pd.DataFrame({"label": labels, "split": "all", "line": range(len(labels))})
    if size > 1:  # groups of rows of one class
        number = frame.groupby("label").cumcount() % max(3, len(frame) // (20 * size))
        frame["group"] = frame["label"] + number.astype(str)
    data = params_for("mine", test_fraction=test, validation_fraction=validation).data
    if limit is not None and limit < 3 * len(counts):
        with pytest.raises(DataError, match=rf"data.limit: {limit} rows .* {3 * len(counts)} or m"):
            sample(frame, limit, 42)
        return
    kept = sample(frame, limit, 42)
    assert len(kept) == min(limit or len(frame), len(frame))
    assert kept["line"].is_monotonic_increasing
    parts = split_rows(kept, data)
    assert all(set(part["label"]) == set(labels) for part in parts.values())
    assert sorted(line for part in parts.values() for line in part["line"]) == list(kept["line"])


def test_a_limit_keeps_the_shares_of_splits_and_classes() -> None:
    counts = {("train", "a"): 600, ("train", "b"): 200, ("test", "a"): 150, ("test", "b"): 50}
    frame = pd.DataFrame([key for key, n in counts.items() for _ in range(n)])
    frame = frame.set_axis(["split", "label"], axis=1).assign(line=range(1000))
    kept = sample(frame, 100, 42)
    assert kept.groupby(["split", "label"]).size().to_dict() == {
        k: n / 10 for k, n in counts.items()
    }
    assert set(sample(frame, 100, 43)["line"]) != set(kept["line"])


# What is said


SPLITS = {
    "train": pd.DataFrame({"text": ["one, two", "three", "!"], "label": ["a", "b", "a"]}),
    "validation": pd.DataFrame({"text": ["four five six"], "label": ["a"]}),
    "test": pd.DataFrame({"text": ["seven"], "label": ["b"]}),
}


@pytest.mark.parametrize(("max_length", "truncated"), [(5, 0), (4, 2), (3, 2), (2, 5)])
def test_rows_shares_and_lengths_are_counted(max_length: int, truncated: int) -> None:
    found = summarise(SPLITS, ["a", "b"], max_length)
    assert [found[f"rows_{name}"] for name in SPLITS] == [3, 1, 1]
    assert found["share"]["train"] == pytest.approx({"a": 2 / 3, "b": 1 / 3})
    assert found["share"]["test"] == {"a": 0, "b": 1}
    assert (found["classes"], found["characters_max"]) == (2, len("four five six"))
    # Pieces of the texts, punctuation included: 3, 1, 1, 3, 1; two special tokens are added.
    assert (found["words_mean"], found["words_median"], found["words_max"]) == (1.8, 1, 3)
    assert found["rows_truncated_at_least"] == truncated


def test_the_lines_name_only_what_was_left_out() -> None:
    found = summarise(SPLITS, ["a", "b"], max_length=5)
    assert describe(found | NONE).splitlines() == [
        "rows: 3 train, 1 validation, 1 test",
        "classes in train: a 66.7 %, b 33.3 %",
    ]
    counts = {"rows_source": 1007, "rows_leaked": 2, "rows_not_sampled": 1000}
    assert describe(found | NONE | counts | {"rows_truncated_at_least": 1}).splitlines()[2:] == [
        "left out of 1,007 rows: 2 leaked, 1,000 not sampled",
        "at least 1 rows exceed data.max_length",
    ]


def test_of_many_classes_the_commonest_and_the_rarest_are_named() -> None:
    shares = {f"c{n}": n / 3003 for n in range(1, 78)}
    line = describe(summarise(SPLITS, ["a", "b"], 5) | NONE | {"share": {"train": shares}})
    assert line.splitlines()[1] == (
        "77 classes in train: c77 2.6 %, c76 2.5 %, c75 2.5 %, ..., c3 0.1 %, c2 0.1 %, c1 0.0 %"
    )


TEXTS = [f"I paid < 5 & left, number {number}" for number in range(200)]
LABELS = ["good", "bad"] * 100


def of(
    texts: list[str] = TEXTS,
    labels: list[str] = LABELS,
    tested: int = 60,
    counts: dict[str, int] | None = None,
    params: dict[str, Any] | None = None,
    **columns: list[str],
) -> list[str]:
    """Return the notes on rows, of which the last ones are for test, and the ten before them."""
    rows = pd.DataFrame({"text": texts, "label": labels, **columns})
    splits = {"train": rows[: -tested - 10], "test": rows[-tested:]}
    splits["validation"] = rows[-tested - 10 : -tested]
    data = params_for("mine", **(params or {})).data
    return list(notes(splits, sorted(set(labels)), NONE | (counts or {}), {}, data))


SEVERAL = {"labels_several": 9, "labels_agreeing": 6}
AGREE = "labels are of texts that have several; 66.7 % of them agree with the commonest "
LEFT_OUT = "4 rows were left out since the labels of their text "


@pytest.mark.parametrize(
    ("rows", "expected"),
    [
        ({}, []),
        ({"counts": {"rows_repeated": 200}}, []),
        (
            {"counts": {"rows_repeated": 201}},
            ["201 rows repeat the text of another, 200 do not"],
        ),
        ({"tested": 59}, ["the test set of 59 rows is too small to show a gain of ten points (p"]),
        (
            {"counts": {"rows_conflict": 4, **SEVERAL}},
            [f"9 {AGREE}", f"{LEFT_OUT}tie: those are the hard ones"],
        ),
        (
            {"counts": {"rows_conflict": 4, **SEVERAL}, "params": {"on_conflict": "drop"}},
            [f"9 {AGREE}", f"{LEFT_OUT}contradict each other: those"],
        ),
        (
            {"counts": {"rows_outvoted": 1, **SEVERAL}},
            [f"9 {AGREE}", "1 rows were left out since most labels of their text are another one"],
        ),
        (
            {"labels": [*LABELS[:130], *["good"] * 10, *LABELS[140:]]},
            ["classes without a row in validation: bad; nothing that validation chooses"],
        ),
        (
            {"labels": [*LABELS[:140], *["good"] * 60]},
            ["classes without a row in test: bad; nothing that test chooses"],
        ),
    ],
)
def test_what_is_rarely_meant_is_noted(rows: dict[str, Any], expected: list[str]) -> None:
    found = of(**rows)
    assert [note[: len(start)] for note, start in zip(found, expected, strict=True)] == expected


def test_classes_with_few_rows_are_noted_the_rarest_first() -> None:
    labels = [f"rare {n}" for n in range(2, 9) for _ in range(n)] + ["ten"] * 10
    note, *_ = of(labels=labels + ["good"] * (200 - len(labels)))
    assert note == (
        "classes with fewer than 10 rows: rare 2 (2), rare 3 (3), rare 4 (4), rare 5 (5), "
        "rare 6 (6) and 2 more"
    )
