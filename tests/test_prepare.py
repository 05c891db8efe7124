"""Stage prepare: what it writes, what it leaves out, and what it refuses."""

from __future__ import annotations

import hashlib
import json
import unicodedata
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from stages.core.errors import DataError
from stages.prepare import prepare
from stages.rows.checks import fold
from stages.sources import locate
from stages.sources.locate import DataSource
from tests.support.tables import OUTPUTS, Rows, assert_not_prepared, official, table
from tests.support.tiny import params_for

ROOT = Path(__file__).parents[1]
SPLITS = ("train", "validation", "test")
TWO: Rows = [(f"text {number}", "pos" if number % 3 else "neg") for number in range(60)]


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def summary() -> dict[str, Any]:
    content: dict[str, Any] = json.loads(Path("metrics/data.json").read_text(encoding="utf-8"))
    return content


def labels() -> list[str]:
    content: list[str] = json.loads(Path("data/labels.json").read_text(encoding="utf-8"))
    return content


def split(name: str) -> pd.DataFrame:
    return pd.read_parquet(f"data/{name}.parquet")


def written() -> dict[str, Any]:
    return {name: split(name).set_index("text")["label"].to_dict() for name in SPLITS}


def bytes_written() -> list[bytes]:
    return [path.read_bytes() for path in [*OUTPUTS, Path("metrics/data.json")]]


def assert_every_row_is_counted() -> None:
    counts = {name: value for name, value in summary().items() if name.startswith("rows_")}
    del counts["rows_truncated_at_least"]
    assert counts.pop("rows_source") == sum(counts.values())


def test_every_row_lands_in_one_split_with_its_label() -> None:
    prepare(params_for(table(TWO)))
    parts = written()
    assert {name: len(rows) for name, rows in parts.items()} == {
        "train": 48,
        "validation": 6,
        "test": 6,
    }
    assert parts["train"] | parts["validation"] | parts["test"] == dict(TWO)
    assert_every_row_is_counted()


def test_the_split_keeps_the_shares_of_the_classes() -> None:
    prepare(params_for(table(TWO)))
    assert {name: rows["neg"] for name, rows in summary()["share"].items()} == {
        name: pytest.approx(1 / 3, abs=1e-6) for name in SPLITS
    }


def test_the_id_is_a_hash_of_the_text_alone() -> None:
    prepare(params_for(table(TWO)))
    train = split("train")
    assert list(train.columns) == ["id", "text", "label"]
    assert train["id"].tolist() == [
        hashlib.sha256(text.encode()).hexdigest()[:16] for text in train["text"]
    ]


def test_the_same_input_gives_the_same_bytes() -> None:
    source = table(TWO)
    prepare(params_for(source))
    first = bytes_written()
    prepare(params_for(source))
    assert bytes_written() == first


def test_another_seed_gives_another_split() -> None:
    params = params_for(table(TWO))
    prepare(params)
    first = set(split("test")["text"])
    prepare(params_for(table(TWO), split_seed=7))
    assert set(split("test")["text"]) != first


def test_texts_are_written_as_they_are() -> None:
    odd = ["=cmd()", " Padded  twice ", "ﬁne", "zero\u200bwidth", "two\r\nlines", "e\u0301"]
    prepare(params_for(table([*TWO, *((text, "pos") for text in odd)], "mine.jsonl")))
    assert set(odd) <= set().union(*written().values())


def test_official_splits_are_kept_and_validation_is_drawn_from_train() -> None:
    test: Rows = [("new 1", "pos"), ("new 2", "neg")]
    prepare(params_for(official(train=TWO, test=test)))
    parts = written()
    assert parts["test"] == dict(test)
    assert parts["train"] | parts["validation"] == dict(TWO)
    assert set(parts["validation"].values()) == {"pos", "neg"}


def test_an_official_validation_split_is_kept() -> None:
    source = official(train=TWO, validation=[("v", "pos")], test=[("t", "neg")])
    prepare(params_for(source))
    assert written() == {"train": dict(TWO), "validation": {"v": "pos"}, "test": {"t": "neg"}}


@pytest.mark.parametrize("path", ["mine.csv", "mine.jsonl", "mine.parquet"])
def test_integer_labels_are_strings_in_numeric_order(path: str) -> None:
    prepare(params_for(table([(f"text {n}", n % 11) for n in range(110)], path)))
    assert labels() == [str(number) for number in range(11)]
    assert set(split("train")["label"]) == set(labels())


def test_three_classes_stand_in_alphabetical_order() -> None:
    prepare(params_for(table([(f"text {n}", "bca"[n % 3]) for n in range(60)])))
    assert labels() == ["a", "b", "c"]
    assert summary()["classes"] == 3


def test_a_rating_gives_the_label_by_its_sign(monkeypatch: pytest.MonkeyPatch) -> None:
    ratings = ["0", "-0.0", *(["1.25", "-0.5"] * 15)]
    lines = [f"{number}\t{rating}\ttext {number}" for number, rating in enumerate(ratings)]
    Path("rated.txt").write_text("\r\n".join(lines), encoding="utf-8")
    source = DataSource(
        {"all": Path("rated.txt")}, "0" * 64, ("id", "rating", "text"), "rating", ("bad", "good")
    )
    monkeypatch.setattr(locate, "locate_data", lambda *_: source)
    prepare(params_for("rated"))
    assert labels() == ["bad", "good"]
    assert summary()["rows_neutral"] == 2
    assert summary()["source_sha256"] == "0" * 64
    rated = pd.concat([split(name) for name in SPLITS])
    assert set(zip(rated["rating"], rated["label"], strict=True)) == {(1.25, "good"), (-0.5, "bad")}


def test_declared_names_stand_for_integer_labels(monkeypatch: pytest.MonkeyPatch) -> None:
    file = table([(f"text {n}", n % 2) for n in range(40)], "mine.parquet")
    source = DataSource({"all": file}, "0" * 64, label_names=("zebra", "ant"))
    monkeypatch.setattr(locate, "locate_data", lambda *_: source)
    prepare(params_for("named"))
    assert labels() == ["zebra", "ant"]
    assert written()["train"].items() <= {(f"text {n}", ("zebra", "ant")[n % 2]) for n in range(40)}


def test_a_repeat_with_its_label_is_kept_once_and_counted(
    capsys: pytest.CaptureFixture[str],
) -> None:
    prepare(params_for(table([*TWO, ("TEXT  0", "neg"), ("text 1", "pos")])))
    assert summary()["rows_repeated"] == 2
    assert "TEXT  0" not in set().union(*written().values())
    assert "2 repeated" in capsys.readouterr().out
    assert_every_row_is_counted()


@pytest.mark.parametrize(
    "copy", ["text 7", "TEXT 7", " text \t 7 ", "ｔｅｘｔ ７", "te\u200bxt 7", "\ufefftext 7"]
)
def test_a_text_in_two_splits_is_refused_by_both_lines(copy: str) -> None:
    fault = assert_not_prepared(official(train=TWO, test=[("new", "neg"), (copy, "pos")]))
    assert "mine/train.csv:9" in fault
    assert "mine/test.csv:3" in fault
    assert "data.on_leak to drop" in fault


def test_dropping_leaks_keeps_test_over_validation_over_train() -> None:
    train: Rows = [*TWO, ("shared a", "pos"), ("shared b", "neg")]
    validation: Rows = [("Shared A", "pos"), ("Shared B", "neg"), ("v", "pos")]
    source = official(train=train, validation=validation, test=[("SHARED A", "pos"), ("t", "neg")])
    prepare(params_for(source, on_leak="drop"))
    parts = written()
    assert parts["test"] == {"SHARED A": "pos", "t": "neg"}
    assert parts["validation"] == {"Shared B": "neg", "v": "pos"}
    assert parts["train"] == dict(TWO)
    assert summary()["rows_leaked"] == 3
    assert_every_row_is_counted()


def test_one_text_with_two_labels_is_refused_by_both_lines() -> None:
    fault = assert_not_prepared(table([*TWO, ("Text 1", "neg")]))
    assert "mine.csv:3 and mine.csv:62" in fault
    assert "data.on_conflict to drop" in fault


def test_dropping_conflicts_leaves_out_every_copy() -> None:
    prepare(params_for(table([*TWO, ("Text 1", "neg")]), on_conflict="drop"))
    assert summary()["rows_conflict"] == 2
    assert not {"text 1", "Text 1"} & set().union(*written().values())
    assert_every_row_is_counted()


INCOMPLETE: Rows = [*TWO, ("", "pos"), (" \t", "neg"), ("no label", "")]


def test_incomplete_rows_are_refused_by_line() -> None:
    fault = assert_not_prepared(table(INCOMPLETE))
    assert "mine.csv: lines 62, 63: empty text" in fault
    assert "mine.csv: line 64: no label" in fault
    assert "data.on_incomplete to drop" in fault


def test_dropping_incomplete_rows_counts_them() -> None:
    prepare(params_for(table(INCOMPLETE), on_incomplete="drop"))
    assert summary()["rows_incomplete"] == 3
    assert set().union(*written().values()) == set(dict(TWO))
    assert_every_row_is_counted()


def test_a_label_that_train_lacks_is_named_with_a_guess() -> None:
    fault = assert_not_prepared(official(train=TWO, test=[("new", "pos"), ("newer", "poss")]))
    assert "mine/test.csv: line 3: label poss is not in train, did you mean pos?" in fault


def test_a_label_that_differs_in_case_only_is_refused() -> None:
    fault = assert_not_prepared(table([*TWO, ("new", "Pos")]))
    assert "mine.csv: line 62: label Pos differs from another in case only" in fault


@pytest.mark.parametrize("label", [" pos", "pos "])
def test_spaces_around_a_label_are_refused(label: str) -> None:
    assert "mine.csv: line 62: label" in assert_not_prepared(table([*TWO, ("new", label)]))


def test_one_class_is_none_to_learn() -> None:
    assert "only one class, pos" in assert_not_prepared(table([(text, "pos") for text, _ in TWO]))


def test_a_column_of_ids_is_no_label() -> None:
    fault = assert_not_prepared(table([(text, text) for text, _ in TWO]))
    assert "60 different labels in 60 rows" in fault
    assert "data.label_column" in fault


@pytest.mark.parametrize("rows", [1, 2])
def test_a_class_too_rare_for_three_splits_is_named(rows: int) -> None:
    fault = assert_not_prepared(table([*TWO, *((f"new {n}", "rare") for n in range(rows))]))
    assert f"label rare: {rows} rows" in fault


@pytest.mark.parametrize("limit", [20, 30])
def test_a_limit_keeps_that_many_rows_of_every_class(limit: int) -> None:
    prepare(params_for(table(TWO), limit=limit))
    assert sum(map(len, written().values())) == limit
    assert all(set(rows.values()) == {"pos", "neg"} for rows in written().values())
    assert summary()["rows_not_sampled"] == 60 - limit
    assert_every_row_is_counted()


def test_a_limit_is_shared_by_official_splits() -> None:
    test: Rows = [(f"new {text}", label) for text, label in TWO[:30]]
    source = official(train=TWO, test=test)
    prepare(params_for(source, limit=30))
    assert (summary()["rows_train"] + summary()["rows_validation"], summary()["rows_test"]) == (
        20,
        10,
    )


def test_a_limit_above_the_rows_changes_nothing() -> None:
    source = table(TWO)
    prepare(params_for(source))
    first = bytes_written()
    prepare(params_for(source, limit=1000))
    assert bytes_written() == first


def test_texts_longer_than_the_limit_are_counted_from_below() -> None:
    rows = [*TWO, ("one, two three four five", "pos"), ("one two three four five", "pos")]
    prepare(params_for(table(rows), max_length=8))  # 6 pieces and 2 special tokens just fit
    assert summary()["rows_truncated_at_least"] == 0
    prepare(params_for(table([*rows, ("one, two three four five!", "pos")]), max_length=8))
    assert summary()["rows_truncated_at_least"] == 1


def test_the_summary_names_no_place() -> None:
    source = table(TWO)
    prepare(params_for(source))
    content = Path("metrics/data.json").read_text(encoding="utf-8")
    assert str(Path.cwd()) not in content
    assert source.name not in content
    assert summary()["source_sha256"] == hashlib.sha256(source.read_bytes()).hexdigest()


def test_a_refused_source_leaves_the_old_outputs_as_they_are() -> None:
    prepare(params_for(table(TWO)))
    before = bytes_written()
    with pytest.raises(DataError):
        prepare(params_for(table(INCOMPLETE)))
    assert bytes_written() == before
    assert not [path for path in Path("data").iterdir() if ".tmp" in path.name]


def test_folding_ignores_what_a_reader_does_not_see() -> None:
    assert fold(" Ｓtra\u200bße\n\u00a0X ") == "strasse x"
    assert fold(unicodedata.normalize("NFD", "é")) == fold("é")
    assert fold("a") != fold("b")
