"""What is said of the prepared rows: the summary, and a note on what is rarely meant."""

from pathlib import Path

import pandas as pd
import pytest

from stages.core.errors import DataError
from stages.rows.splits import COUNTS, describe, notes, summarise
from tests.support.tables import sizes

SPLITS = {
    "train": pd.DataFrame({"text": ["one, two", "three", "!"], "label": ["a", "b", "a"]}),
    "validation": pd.DataFrame({"text": ["four five six"], "label": ["a"]}),
    "test": pd.DataFrame({"text": ["seven"], "label": ["b"]}),
}
NONE_LEFT_OUT = {f"rows_{name}": 0 for name in COUNTS}


def test_rows_shares_and_lengths_are_counted() -> None:
    summary = summarise(SPLITS, ["a", "b"], max_length=5)
    assert [summary[f"rows_{name}"] for name in SPLITS] == [3, 1, 1]
    assert summary["share"]["train"] == pytest.approx({"a": 2 / 3, "b": 1 / 3})
    assert summary["share"]["test"] == {"a": 0, "b": 1}
    assert summary["classes"] == 2
    # Pieces of the texts, punctuation included: 3, 1, 1, 3, 1.
    assert (summary["words_mean"], summary["words_median"], summary["words_max"]) == (1.8, 1, 3)
    assert summary["characters_max"] == len("four five six")


@pytest.mark.parametrize(("max_length", "truncated"), [(5, 0), (4, 2), (3, 2), (2, 5)])
def test_two_special_tokens_are_added_before_texts_count_as_truncated(
    max_length: int, truncated: int
) -> None:
    assert summarise(SPLITS, ["a", "b"], max_length)["rows_truncated_at_least"] == truncated


def test_the_lines_name_only_what_was_left_out() -> None:
    summary = summarise(SPLITS, ["a", "b"], max_length=5)
    assert describe(summary | NONE_LEFT_OUT).splitlines() == [
        "rows: 3 train, 1 validation, 1 test",
        "classes in train: a 66.7 %, b 33.3 %",
    ]
    counts = {"rows_source": 1007, "rows_leaked": 2, "rows_not_sampled": 1000}
    lines = describe(summary | NONE_LEFT_OUT | counts | {"rows_truncated_at_least": 1}).splitlines()
    assert lines[2:] == [
        "left out of 1,007 rows: 2 leaked, 1,000 not sampled",
        "at least 1 rows exceed data.max_length",
    ]


def in_splits(texts: list[str], labels: list[str], **columns: list[str]) -> dict[str, pd.DataFrame]:
    """Return the rows as three splits, the test rows the last 60 of them."""
    rows = pd.DataFrame({"text": texts, "label": labels, **columns})
    return {"train": rows[:-70], "validation": rows[-70:-60], "test": rows[-60:]}


TEXTS = [f"I paid < 5 & left, number {number}" for number in range(200)]
LABELS = ["good", "bad"] * 100


def of(texts: list[str] = TEXTS, labels: list[str] = LABELS, repeated: int = 0) -> list[str]:
    return notes(in_splits(texts, labels), sorted(set(labels)), repeated)


def test_ordinary_rows_get_no_note() -> None:
    assert of() == []


@pytest.mark.parametrize("mark", ["&amp;", "<br />", "&#39;", "</P>", '<a href="x">', "&#x27;"])
def test_html_in_many_texts_is_noted(mark: str) -> None:
    marked = [f"{text} {mark}" if n < 12 else text for n, text in enumerate(TEXTS)]
    assert of(marked) == [
        f"note: 6 % of the texts hold html, such as {mark}; they are read as they are"
    ]
    assert of([f"{text} {mark}" if n < 10 else text for n, text in enumerate(TEXTS)]) == []


def test_texts_that_are_numbers_are_noted() -> None:
    (note,) = of([str(number) for number in range(101)] + TEXTS[:99])
    assert note == "note: 101 of 200 texts are numbers: is data.text_column the right one?"


def test_a_text_column_of_few_values_is_noted() -> None:
    (note,) = of(repeated=201)
    assert note.startswith("note: 201 rows repeat the text of another, 200 do not: is data.text")
    assert of(repeated=200) == []


def test_rare_classes_are_noted_with_their_rows() -> None:
    note, *_ = of(labels=["rare"] * 9 + ["ten"] * 10 + ["good"] * 181)
    assert note == "note: classes with fewer than 10 rows: rare (9)"


@pytest.mark.parametrize("name", ["validation", "test"])
def test_a_class_without_a_row_in_a_split_is_noted(name: str) -> None:
    splits = in_splits(TEXTS, LABELS)
    one = LABELS[0]
    splits[name] = splits[name][splits[name]["label"] == one]
    (note,) = [n for n in notes(splits, sorted(set(LABELS)), 0) if "without a row" in n]
    other = next(label for label in LABELS if label != one)
    assert note.startswith(f"note: classes without a row in {name}: {other}; nothing that {name}")


def test_classes_that_differ_in_spaces_or_signs_are_noted() -> None:
    (note,) = of(labels=["very good", "very_good", "bad", "very  bad"] * 50)
    assert note == (
        "note: classes that differ in spaces or signs alone: 'very good' and 'very_good'"
    )


def test_a_test_set_that_cannot_show_ten_points_is_noted() -> None:
    parts = in_splits(TEXTS, LABELS)
    parts["test"] = parts["test"][1:]
    (note,) = notes(parts, ["bad", "good"], 0)
    assert note.startswith("note: the test set of 59 rows is too small to show a gain of ten")


def test_a_group_for_each_row_is_noted() -> None:
    parts = in_splits(TEXTS, LABELS, group=[f"g{n}" for n in range(200)])
    (note,) = notes(parts, ["bad", "good"], 0)
    assert note.startswith("note: data.group_column: each row has a group of its own")
    assert notes(in_splits(TEXTS, LABELS, group=["a", "b"] * 100), ["bad", "good"], 0) == []


def test_one_group_for_all_rows_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    rows = [f"text {n},{'ab'[n % 2]},same" for n in range(60)]
    Path("mine.csv").write_text("\n".join(["text,label,film", *rows]), encoding="utf-8")
    with pytest.raises(DataError, match="all rows are of one group, same, which cannot be split"):
        sizes(Path("mine.csv"), group_column="film")


def test_prepare_prints_the_notes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    rows = [f"text {n}<br>;{'ab'[n % 2]}" for n in range(60)]
    Path("mine.csv").write_text("\n".join(["sep=;", "text;label", *rows]), encoding="utf-8")
    assert sizes(Path("mine.csv")) == (48, 6, 6)
    printed = capsys.readouterr().out.splitlines()
    assert printed[0] == "read: mine.csv (csv separated by semicolons, UTF-8)"
    assert [line[:22] for line in printed if line.startswith("note:")] == [
        "note: 100 % of the tex",
        "note: the test set of ",
    ]
