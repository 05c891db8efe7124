"""Rows: labels of every type, what is one text, one group, one label, and what is refused."""

import json
from collections import Counter
from decimal import Decimal
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from tokenizers.normalizers import BertNormalizer

from stages.core.errors import DataError
from stages.core.params import DataParams
from stages.rows.checks import read_rows
from stages.rows.labels import fold
from stages.sources.locate import DataSource, locate_data
from tests.support.tiny import params_for

TEXTS = [f"text {number}" for number in range(6)]


def params(**changes: Any) -> DataParams:
    return params_for("mine", **changes).data


def csv(content: str, path: str = "mine.csv") -> Path:
    file = Path(path)
    file.parent.mkdir(exist_ok=True)
    file.write_text(content, encoding="utf-8", newline="")
    return file


def jsonl(labels: list[Any]) -> Path:
    rows = [{"text": f"text {number}", "label": label} for number, label in enumerate(labels)]
    return csv("\n".join(map(json.dumps, rows)), "mine.jsonl")


def parquet(labels: Any, kind: pa.DataType | None = None) -> Path:
    column = pa.array(labels, kind)
    pq.write_table(pa.table({"text": TEXTS[: len(column)], "label": column}), "mine.parquet")
    return Path("mine.parquet")


def read(file: Path, names: tuple[str, ...] | None = None, **changes: Any) -> pd.DataFrame:
    return rows_of(DataSource({"all": (file,)}, "", label_names=names), params(**changes))


def rows_of(
    source: DataSource, data: DataParams, counts: Counter[str] | None = None
) -> pd.DataFrame:
    return read_rows(source, data, Counter() if counts is None else counts)[0]


def labels_of(file: Path, names: tuple[str, ...] | None = None, **changes: Any) -> list[str]:
    labels: list[str] = read(file, names, **changes)["label"].tolist()
    return labels


def refused(file: Path, names: tuple[str, ...] | None = None, **changes: Any) -> str:
    with pytest.raises(DataError) as caught:
        labels_of(file, names, **changes)
    assert all("Fix: " in line for line in str(caught.value).split("\n"))
    return str(caught.value)


# Labels


@pytest.mark.parametrize(
    ("values", "labels"),
    [
        ([1, 1.0, "1", -1, 0, -0.0], ["1", "1", "1", "-1", "0", "0"]),
        ([["a"], ["b"], "a"], ["a", "b", "a"]),
        ([True, "False", "TRUE"], ["true", "false", "true"]),
        ([0.5, "0.5", 1], ["0.5", "0.5", "1"]),
        (["3.10", "3.1", "v1.0"], ["3.10", "3.1", "v1.0"]),
        ([-0.0, "-0.0", 0], ["0", "0", "0"]),
        (["007", 7, 1e300], ["007", "7", "1e+300"]),
        (["caf\u00e9", "cafe\u0301"], ["caf\u00e9", "caf\u00e9"]),  # one string to Unicode
        (["nan", "None", "NA", "null"], ["nan", "None", "NA", "null"]),  # words, not nothing
    ],
)
def test_a_label_has_one_spelling(values: list[object], labels: list[str]) -> None:
    assert labels_of(jsonl(values)) == labels


@pytest.mark.parametrize(
    ("values", "kind", "labels"),
    [
        ([b"a", "schön".encode(), b"a"], pa.binary(), ["a", "schön", "a"]),
        ([Decimal("1.0"), Decimal("2.5"), Decimal("1.0")], pa.decimal128(4, 1), ["1", "2.5", "1"]),
        ([0.1, 0.2, 1.0], pa.float32(), ["0.1", "0.2", "1"]),
        ([["a"], ["b"], ["a"]], pa.list_(pa.string()), ["a", "b", "a"]),
    ],
)
def test_types_of_a_parquet_file(values: list[Any], kind: pa.DataType, labels: list[str]) -> None:
    assert labels_of(parquet(values, kind)) == labels


@pytest.mark.parametrize("nothing", ["", " ", "\t", "\u00a0", "\u200b", "\ufe0f", [], None])
def test_a_label_of_nothing_is_none(nothing: object) -> None:
    file = jsonl(["a", nothing, "b"])
    assert "mine.jsonl: line 2: no label" in refused(file)
    assert labels_of(file, on_incomplete="drop") == ["a", "b"]


def test_declared_names_hold_for_integers_that_come_as_floats() -> None:
    names = ("neg", "pos")
    for nothing in (None, float("nan"), -1.0):  # -1 is an unlabelled row of the Hub
        file = parquet([1.0, nothing, 0.0])
        assert "mine.parquet: line 2: no label" in refused(file, names)
        assert labels_of(file, names, on_incomplete="drop") == ["pos", "neg"]
    for number in (2, -2, 2.0):
        fault = refused(parquet([0, 1, number]), names, on_incomplete="drop")
        assert f"line 3: label {number} is none of the 2 that the source names" in fault


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (["a", "b"], "more than one label"),
        ([[0, 4, "PER"]], "the label [0, 4, 'PER'] is a list, neither text nor a number"),
        ({"choices": ["a"]}, "the label {'choices': ['a']} is of type dict"),
    ],
)
def test_what_is_no_single_class_is_no_label(value: object, message: str) -> None:
    fault = refused(jsonl(["a", "b", value]), on_incomplete="drop")
    assert f"mine.jsonl: line 3: {message}" in fault


@pytest.mark.parametrize("rating", ["", "good", "nan", "inf", "1,5", "--1"])
def test_a_rating_that_is_no_finite_number_is_refused(rating: str) -> None:
    file = csv(f"1\t0.5\ta\n2\t{rating}\tb\n3\t-1\tc\n", "rated.txt")
    source = DataSource({"all": (file,)}, "", ("id", "rating", "text"), "rating")
    with pytest.raises(DataError, match="line 2: rating is not a finite number"):
        read_rows(source, params(), Counter())


# Texts


@pytest.mark.parametrize(
    ("name", "content", "expected"),
    [
        ("m.csv", "text,label\na\0b,pos\n", "line 2: holds a NUL character"),
        ("m.jsonl", '{"text": "\\ud800", "label": 1}', "line 1: holds half of a surrogate pair"),
        ("m.jsonl", '{"text": ["a"], "label": 1}', "line 1: the text ['a'] is a list"),
        (
            "m.jsonl",
            '{"text": {"en": "a"}, "label": 1}',
            "line 1: the text {'en': 'a'} is of",
        ),
        ("m.jsonl", '{"text": "a", "label": "x\\u0000"}', "line 1: holds a NUL character"),
        ("m.csv", "text,label\n,\n  ,y\n", "lines 2, 3: empty text"),
        ("m.csv", "text,label\nc, y\n", "line 2: label ' y' has spaces around it"),
        ("m.csv", "text,lab\x1b[2Jel\na,b\n", "name one of its columns: text, lab\\x1b[2Jel"),
        ("m.jsonl", '{"text": }\n{"text": ]\n', "lines 1, 2: not valid JSON: Expecting value. Fix"),
    ],
)
def test_what_is_wrong_is_named_with_its_lines(name: str, content: str, expected: str) -> None:
    assert expected in refused(csv(content, name))


# By name, and by Unicode's category: format, controls, private use, marks that select a variant.
UNSEEN = "\u200b\u200e\u200f\u202a\u2060\u2066\ufeff\u00ad\u061c\ufe0f\u034f\u2062\U000e0041"
UNSEEN += "\x01\x0b\x1c\x7f\x85\x9f\ue000\ufffd\u3164\u180b\U000e0100"


@pytest.mark.parametrize("unseen", UNSEEN)
def test_a_character_that_is_not_seen_makes_no_other_text_label_or_group(unseen: str) -> None:
    assert fold(f"a love{unseen}ly film") == fold("a lovely film")
    file = csv(f'text,label,film\na,x,f\n"{unseen}",x,f\nb,"{unseen}",f\nc,x,"{unseen}"\n')
    fault = refused(file, group_column="film")
    for what in ("line 3: empty text", "line 4: no label", "line 5: no group"):
        assert what in fault


def test_what_berts_tokenizer_drops_is_folded_away() -> None:
    clean = BertNormalizer(
        clean_text=True, handle_chinese_chars=False, strip_accents=False, lowercase=False
    )
    characters = [chr(code) for code in range(0x20000) if not 0xD800 <= code <= 0xDFFF]
    dropped = [c for c in characters if clean.normalize_str(f"a{c}b") == "ab"]
    assert len(dropped) > 6000
    assert [c for c in dropped if fold(f"a{c}b") != "ab"] == []


ALIKE = {
    **{"Straße": "STRASSE", "ﬁne": "fine", "e\u0301": "é", "e\u034f\u0301": "é", "２": "2"},
    **{"a\u00a0b": "a \t\r\n b", "ＡＢＣ": "abc", "K": "\u212a", " padded ": "padded"},
}
APART = {"a": "b", "a b": "ab", "é": "e", "a!": "a"}


@pytest.mark.parametrize("one", [*ALIKE, *APART])
def test_texts_fold_alike_if_they_look_alike(one: str) -> None:
    assert (fold(one) == fold({**ALIKE, **APART}[one])) == (one in ALIKE)


# One text on several rows


def test_a_split_that_only_repeats_test_is_not_replaced_by_a_fresh_one() -> None:
    for split in ("train", "validation", "test"):
        rows = "a,x\nb,y\n" if split == "train" else "c,x\nd,y\n"
        csv(f"text,label\n{rows}", f"mine/{split}.csv")
    with pytest.raises(DataError, match=r"mine/validation\.csv: no row is left"):
        read_rows(locate_data("mine", Path()), params(on_leak="drop"), Counter())


def test_many_conflicts_name_five_and_count_the_rest() -> None:
    lines = [f"text {n},{label}\n" for label in "xy" for n in range(12)]
    fault = refused(csv("text,label\n" + "".join(lines)))
    assert fault.count(" and mine.csv:") == 5
    assert "and 7 more: one text with two labels" in fault
    repeated = refused(csv("text,label\na,x\nb,y\n" + "same,x\n" * 1000 + "same,y\n"))
    assert repeated.startswith("error: mine.csv:4 and mine.csv:1004: one text with two labels")


# Of the labels two agree and one does not, two tie, two agree; one text has a single label.
RATERS = "text,r1,r2,r3\na,x,x,y\nb,x,y,\nc,y,,y\nd,,x,\n"


def test_the_labels_of_raters_are_refused_dropped_or_counted() -> None:
    file, raters = csv(RATERS), ["r1", "r2", "r3"]
    fault = refused(file, label_column=raters)
    assert fault.startswith("error: mine.csv:2; mine.csv:3: one text with two labels. Fix: ")
    assert "data.on_conflict to drop" in fault
    kept, figures = {"c": "y", "d": "x"}, (8, 5, 0, 1)
    for on_conflict in ("drop", "majority"):
        counts: Counter[str] = Counter()
        data = params(on_conflict=on_conflict, label_column=raters)
        rows = rows_of(DataSource({"all": (file,)}, ""), data, counts)
        assert dict(zip(rows["text"], rows["label"], strict=True)) == kept
        named = ("source", "conflict", "outvoted", "repeated")
        assert tuple(counts[f"rows_{name}"] for name in named) == figures
        assert (counts["labels_several"], counts["labels_agreeing"]) == (7, 5)
        kept, figures = {"a": "x", **kept}, (8, 2, 1, 2)


def test_one_rater_who_skips_is_no_gap_but_all_who_skip_are() -> None:
    fault = refused(csv("text,r1,r2\na,x,\nb,,\n"), label_column=["r1", "r2"])
    assert fault.startswith("error: mine.csv: line 3: no label. Fix: ")


# Files


def test_columns_may_have_the_names_used_inside() -> None:
    names = ["line", "file", "split", "id", "folded", "rating", "text", "label"]
    frame = pd.DataFrame({name: [f"{name} {n}" for n in range(3)] for name in names})
    frame.to_parquet("mine.parquet")
    for text, label in (("line", "rating"), ("label", "text"), ("split", "line")):
        rows = read(Path("mine.parquet"), text_column=text, label_column=label)
        assert rows["line"].tolist() == [1, 2, 3]
        assert rows["text"].tolist() == frame[text].tolist()
        assert rows["label"].tolist() == frame[label].tolist()


def test_a_path_may_look_like_a_partition() -> None:
    Path("label=z").mkdir()
    parquet(["x", "y"]).rename("label=z/mine.parquet")
    assert labels_of(Path("label=z/mine.parquet")) == ["x", "y"]
