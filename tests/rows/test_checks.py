"""Rows: labels of every type, texts that several rows share, and messages that stay short."""

import json
from collections import Counter
from decimal import Decimal
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from stages.core.errors import DataError
from stages.core.params import DataParams, load_params
from stages.rows.checks import fold, read_rows, row_id
from stages.sources.locate import DataSource, locate_data

ROOT = Path(__file__).parents[2]
DATA = load_params(ROOT / "params.yaml").data
TEXTS = [f"text {number}" for number in range(6)]


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def params(**changes: Any) -> DataParams:
    return DATA.model_copy(update=changes)


def csv(content: str, path: str = "mine.csv") -> Path:
    file = Path(path)
    file.parent.mkdir(exist_ok=True)
    file.write_text(content, encoding="utf-8", newline="")
    return file


def jsonl(labels: list[Any]) -> Path:
    lines = [
        json.dumps({"text": text, "label": label})
        for text, label in zip(TEXTS, labels, strict=False)
    ]
    return csv("\n".join(lines), "mine.jsonl")


def parquet(labels: Any, kind: pa.DataType | None = None) -> Path:
    column = pa.array(labels, kind)
    pq.write_table(pa.table({"text": TEXTS[: len(column)], "label": column}), "mine.parquet")
    return Path("mine.parquet")


def labels_of(file: Path, names: tuple[str, ...] | None = None, **changes: Any) -> list[str]:
    source = DataSource({"all": file}, "", label_names=names)
    labels: list[str] = read_rows(source, params(**changes), Counter())["label"].tolist()
    return labels


def refused(file: Path, names: tuple[str, ...] | None = None, **changes: Any) -> str:
    with pytest.raises(DataError) as caught:
        labels_of(file, names, **changes)
    assert all("Fix: " in line for line in str(caught.value).split("\n"))
    return str(caught.value)


def test_integers_and_floats_without_a_fraction_are_one_label() -> None:
    assert labels_of(jsonl([1, 1.0, "1", -1, 0, -0.0])) == ["1", "1", "1", "-1", "0", "0"]


def test_a_column_of_integers_with_gaps_keeps_its_integers() -> None:
    file = parquet([1.0, None, 0.0, float("nan"), 2.0])
    assert labels_of(file, on_incomplete="drop") == ["1", "0", "2"]
    assert "mine.parquet: lines 2, 4: no label" in refused(file)


def test_declared_names_hold_for_integers_that_come_as_floats() -> None:
    assert labels_of(parquet([1.0, 0.0]), ("neg", "pos")) == ["pos", "neg"]


def test_a_categorical_column_is_its_values() -> None:
    assert labels_of(parquet(pa.array(["b", "a", "b"]).dictionary_encode())) == ["b", "a", "b"]


def test_minus_one_is_an_unlabelled_row_of_the_hub() -> None:
    file = parquet([1, -1, 0])
    assert "line 2: no label" in refused(file, ("neg", "pos"))
    assert labels_of(file, ("neg", "pos"), on_incomplete="drop") == ["pos", "neg"]


@pytest.mark.parametrize("number", [2, -2, 2.0])
@pytest.mark.parametrize("on_incomplete", ["refuse", "drop"])
def test_an_integer_beyond_the_declared_names_is_no_missing_label(
    number: float, on_incomplete: str
) -> None:
    fault = refused(parquet([0, 1, number]), ("neg", "pos"), on_incomplete=on_incomplete)
    assert f"line 3: label {number} is none of the 2 that the source names" in fault


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (["a", "b"], "more than one label"),
        ([[0, 4, "PER"]], "the label is a list of lists, [[0, 4, 'PER']]: that marks spans"),
        ({"choices": ["a"]}, "the label is an object with choices"),
        ([{"name": "a"}], "the label is an object with name"),
    ],
)
def test_what_is_no_single_class_is_no_label(value: object, message: str) -> None:
    fault = refused(jsonl(["a", "b", value]), on_incomplete="drop")
    assert f"mine.jsonl: line 3: {message}" in fault


@pytest.mark.parametrize(
    ("values", "labels"),
    [
        ([["a"], ["b"], "a"], ["a", "b", "a"]),
        ([True, "False", "TRUE"], ["true", "false", "true"]),
        ([0.5, "0.5", 1], ["0.5", "0.5", "1"]),
        (["1.0", 1, "1.00"], ["1", "1", "1"]),
        (["3.10", "3.1", "v1.0"], ["3.10", "3.1", "v1.0"]),
        ([-0.0, "-0.0", 0], ["0", "0", "0"]),
        (["007", 7, 1e300], ["007", "7", "1e+300"]),
    ],
)
def test_a_label_has_one_spelling(values: list[object], labels: list[str]) -> None:
    assert labels_of(jsonl(values)) == labels


def test_an_empty_list_is_no_label() -> None:
    file = jsonl(["a", [], "b"])
    assert "line 2: no label" in refused(file)
    assert labels_of(file, on_incomplete="drop") == ["a", "b"]


@pytest.mark.parametrize(
    ("values", "kind", "labels"),
    [
        ([True, False, True], pa.bool_(), ["true", "false", "true"]),
        ([b"a", "schön".encode(), b"a"], pa.binary(), ["a", "schön", "a"]),
        (["a", "b", "a"], pa.large_string(), ["a", "b", "a"]),
        ([Decimal("1.0"), Decimal("2.5"), Decimal("1.0")], pa.decimal128(4, 1), ["1", "2.5", "1"]),
        ([0.1, 0.2, 1.0], pa.float32(), ["0.1", "0.2", "1"]),
        ([1, 2, 1], pa.uint8(), ["1", "2", "1"]),
        ([["a"], ["b"], ["a"]], pa.list_(pa.string()), ["a", "b", "a"]),
    ],
)
def test_types_of_a_parquet_file(values: list[Any], kind: pa.DataType, labels: list[str]) -> None:
    assert labels_of(parquet(values, kind)) == labels


@pytest.mark.parametrize(
    ("value", "kind", "message"),
    [
        (1, pa.timestamp("s"), "is of type datetime, neither text nor a number"),
        (b"\xff", pa.binary(), "the label is bytes that are not UTF-8"),
        (["a", "b"], pa.list_(pa.string()), "more than one label"),
    ],
)
def test_other_types_of_a_parquet_file_are_no_labels(
    value: object, kind: pa.DataType, message: str
) -> None:
    assert message in refused(parquet([value], kind))


@pytest.mark.parametrize("label", ["", " ", "\t", "\u00a0"])
def test_a_label_of_spaces_is_none(label: str) -> None:
    file = csv(f'text,label\na,x\nb,"{label}"\nc,y\n')
    assert "mine.csv: line 3: no label" in refused(file)
    assert labels_of(file, on_incomplete="drop") == ["x", "y"]


def test_words_that_other_readers_take_for_nothing_are_labels() -> None:
    file = csv("text,label\nNA,nan\nnull,None\nNaN,NA\n1e5,true\n")
    assert labels_of(file) == ["nan", "None", "NA", "true"]


def test_incomplete_rows_of_both_kinds_are_named_together() -> None:
    fault = refused(csv("text,label\n,x\nb,\n   ,\nc, y\n"))
    assert "lines 2, 4: empty text" in fault
    assert "line 3: no label" in fault
    assert "line 5: label ' y' has spaces around it" in fault


@pytest.mark.parametrize("rating", ["", "good", "nan", "inf", "1,5", "--1"])
def test_a_rating_that_is_no_finite_number_is_refused(rating: str) -> None:
    file = csv(f"1\t0.5\ta\n2\t{rating}\tb\n3\t-1\tc\n", "rated.txt")
    source = DataSource({"all": file}, "", ("id", "rating", "text"), "rating")
    with pytest.raises(DataError, match="line 2: rating is not a finite number"):
        read_rows(source, params(), Counter())


def test_a_rating_is_kept_as_it_is_and_zero_is_counted() -> None:
    file = csv("1\t0.1\ta\n2\t0.0\tb\n3\t-3.9000000000000004\tc\n", "rated.txt")
    source = DataSource({"all": file}, "", ("id", "rating", "text"), "rating")
    counts: Counter[str] = Counter()
    rows = read_rows(source, params(), counts)
    assert rows["rating"].tolist() == [0.1, -3.9000000000000004]
    assert rows["label"].tolist() == ["positive", "negative"]
    assert (counts["rows_source"], counts["rows_neutral"]) == (3, 1)


def test_rows_know_where_they_stand() -> None:
    csv("text,label\na,x\n\nb,y\n", "mine/train.csv")
    csv("text,label\nc,x\n", "mine/test.csv")
    rows = read_rows(locate_data("mine", Path()), params(), Counter())
    assert {tuple(row) for row in rows[["split", "file", "line", "text", "id"]].values} == {
        ("train", "mine/train.csv", 2, "a", row_id("a")),
        ("train", "mine/train.csv", 4, "b", row_id("b")),
        ("test", "mine/test.csv", 2, "c", row_id("c")),
    }


def test_a_text_of_three_splits_is_named_once_with_two_places() -> None:
    for split in ("train", "validation", "test"):
        csv("text,label\n" + "same,x\n" * 4 + f"{split},y\n", f"mine/{split}.csv")
    with pytest.raises(DataError) as caught:
        read_rows(locate_data("mine", Path()), params(), Counter())
    assert str(caught.value).count("mine/") == 2
    assert "one text in two splits" in str(caught.value)


def test_texts_of_three_splits_are_kept_in_test_and_counted() -> None:
    for split in ("train", "validation", "test"):
        csv(f"text,label\nSAME,x\nsame,x\n{split},y\n", f"mine/{split}.csv")
    counts: Counter[str] = Counter()
    rows = read_rows(locate_data("mine", Path()), params(on_leak="drop"), counts)
    kept = set(zip(rows["split"], rows["text"], strict=True))
    assert ("test", "SAME") in kept
    assert len(kept) == 4
    assert (counts["rows_repeated"], counts["rows_leaked"]) == (3, 2)


def test_many_conflicts_name_five_and_count_the_rest() -> None:
    lines = [f"text {n},{label}\n" for label in "xy" for n in range(12)]
    fault = refused(csv("text,label\n" + "".join(lines)))
    assert fault.count(" and mine.csv:") == 5
    assert "and 7 more: one text with two labels" in fault


def test_a_split_that_only_repeats_test_is_not_replaced_by_a_fresh_one() -> None:
    for split in ("train", "validation", "test"):
        rows = "a,x\nb,y\n" if split == "train" else "c,x\nd,y\n"
        csv(f"text,label\n{rows}", f"mine/{split}.csv")
    with pytest.raises(DataError, match=r"mine/validation\.csv: no row is left"):
        read_rows(locate_data("mine", Path()), params(on_leak="drop"), Counter())


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("Straße", "STRASSE"),
        ("ﬁne", "fine"),
        ("e\u0301", "é"),
        ("a\u00a0b", "a \t\r\n b"),
        ("a\u200bb", "ab"),
        ("so\u00adft", "soft"),
        ("\ufeffx", "x"),
        ("ＡＢＣ", "abc"),
        ("２", "2"),
        ("K", "\u212a"),
        (" padded ", "padded"),
    ],
)
def test_texts_that_look_alike_fold_alike(one: str, other: str) -> None:
    assert fold(one) == fold(other)


@pytest.mark.parametrize(("one", "other"), [("a", "b"), ("a b", "ab"), ("é", "e"), ("a!", "a")])
def test_texts_that_differ_to_a_reader_fold_apart(one: str, other: str) -> None:
    assert fold(one) != fold(other)


def test_the_id_is_of_the_very_text() -> None:
    assert row_id("abc") == "ba7816bf8f01cfea"
    assert row_id("abc") != row_id("abc ")


@pytest.mark.parametrize("ending", ["csv", "tsv", "jsonl", "parquet"])
def test_columns_may_have_the_names_used_inside(ending: str) -> None:
    names = ["line", "file", "split", "id", "folded", "rating", "text", "label"]
    frame = pd.DataFrame({name: [f"{name} {n}" for n in range(3)] for name in names})
    path = Path(f"mine.{ending}")
    if ending == "jsonl":
        frame.to_json(path, orient="records", lines=True)
    elif ending == "parquet":
        frame.to_parquet(path)
    else:
        frame.to_csv(path, index=False, sep="\t" if ending == "tsv" else ",")
    for text, label in (("line", "rating"), ("label", "text"), ("split", "line")):
        first = 2 if ending in ("csv", "tsv") else 1
        rows = read_rows(
            DataSource({"all": path}, ""), params(text_column=text, label_column=label), Counter()
        )
        assert rows["line"].tolist() == [first, first + 1, first + 2]
        assert rows["text"].tolist() == frame[text].tolist()
        assert rows["label"].tolist() == frame[label].tolist()


@pytest.mark.parametrize(
    ("ending", "separator"), [("csv", ";"), ("csv", "\t"), ("csv", "|"), ("tsv", ","), ("tsv", ";")]
)
def test_another_separator_is_recognised(ending: str, separator: str) -> None:
    file = csv(f"text{separator}label\na{separator}x\nb{separator}y\n", f"mine.{ending}")
    assert labels_of(file) == ["x", "y"]


def test_a_jsonl_fault_gives_no_second_line_number() -> None:
    fault = refused(csv('{"text": "a", "label": "x"}\n{"text": }\n{"text": ]\n', "mine.jsonl"))
    assert "lines 2, 3: not valid JSON: Expecting value. Fix: " in fault


def test_a_folder_that_looks_like_a_partition_adds_no_column() -> None:
    Path("label=z").mkdir()
    parquet(["x", "y"]).rename("label=z/mine.parquet")
    assert labels_of(Path("label=z/mine.parquet")) == ["x", "y"]


def test_a_long_path_is_named_whole() -> None:
    folder = Path("a" * 100) / ("b" * 100)
    folder.mkdir(parents=True)
    fault = refused(csv("text,label\na,\n", str(folder / "mine.csv")))
    assert f"error: {folder}/mine.csv: line 2: no label" in fault


def test_a_linked_file_and_a_linked_folder_are_read() -> None:
    csv("text,label\na,x\n", "real/train.csv")
    csv("text,label\nb,x\n", "real/test.csv")
    Path("linked").symlink_to("real")
    Path("mine.csv").symlink_to("real/train.csv")
    assert labels_of(Path("mine.csv")) == ["x"]
    rows = read_rows(locate_data("linked", Path()), params(), Counter())
    assert set(rows["file"]) == {"linked/train.csv", "linked/test.csv"}


def test_a_text_repeated_a_thousand_times_is_listed_once() -> None:
    rows = ["same,x\n"] * 1000
    fault = refused(csv("text,label\na,x\nb,y\n" + "".join(rows) + "same,y\n"))
    assert fault.startswith("error: mine.csv:4 and mine.csv:1004: one text with two labels")


def test_zero_width_characters_alone_are_no_text() -> None:
    fault = refused(csv("text,label\na,x\n\u200b,x\n\u200b\u200b,y\n"))
    assert "mine.csv: lines 3, 4: empty text" in fault


def test_a_missing_column_is_guessed_and_control_characters_do_not_reach_the_terminal() -> None:
    fault = refused(csv("texts,lab\x1b[2Jel,label\na,b,c\n"))
    assert "no column text, did you mean texts?" in fault
    assert "Fix: name one of its columns: texts, lab\\x1b[2Jel, label" in fault


@pytest.mark.parametrize(
    ("name", "content", "expected"),
    [
        ("m.csv", "text,label\na\0b,pos\n", "line 2: holds a NUL character"),
        ("m.jsonl", '{"text": "\\ud800", "label": 1}', "line 1: holds half of a surrogate pair"),
        ("m.jsonl", '{"text": ["a"], "label": 1}', "line 1: the text ['a'] is a list"),
        ("m.jsonl", '{"text": {"en": "a"}, "label": 1}', "line 1: the text is an object with en"),
        ("m.jsonl", '{"text": "a", "label": "x\\u0000"}', "line 1: holds a NUL character"),
    ],
)
def test_a_text_that_is_not_one_is_refused(name: str, content: str, expected: str) -> None:
    assert expected in refused(csv(content, name))
