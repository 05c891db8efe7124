"""Notes: what is allowed but rarely meant is said in one line, and ordinary rows get none."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest

from stages.core.errors import DataError
from stages.rows.summary import notes
from tests.support.tables import sizes


def splits(texts: list[str], labels: list[str], **columns: list[str]) -> dict[str, pd.DataFrame]:
    """Return the rows as three splits, the test rows the last 60 of them."""
    rows = pd.DataFrame({"text": texts, "label": labels, **columns})
    return {"train": rows[:-70], "validation": rows[-70:-60], "test": rows[-60:]}


TEXTS = [f"I paid < 5 & left, number {number}" for number in range(200)]
LABELS = ["good", "bad"] * 100


def of(texts: list[str] = TEXTS, labels: list[str] = LABELS, repeated: int = 0) -> list[str]:
    return notes(splits(texts, labels), sorted(set(labels)), repeated)


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
    (note,) = of(labels=["rare"] * 9 + ["ten"] * 10 + ["good"] * 181)
    assert note == "note: classes with fewer than 10 rows: rare (9)"


def test_classes_that_differ_in_spaces_or_signs_are_noted() -> None:
    (note,) = of(labels=["very good", "very_good", "bad", "very  bad"] * 50)
    assert note == (
        "note: classes that differ in spaces or signs alone: 'very good' and 'very_good'"
    )


def test_a_test_set_that_cannot_show_ten_points_is_noted() -> None:
    parts = splits(TEXTS, LABELS)
    parts["test"] = parts["test"][1:]
    (note,) = notes(parts, ["bad", "good"], 0)
    assert note.startswith("note: the test set of 59 rows is too small to show a gain of ten")


def test_a_group_for_each_row_is_noted() -> None:
    parts = splits(TEXTS, LABELS, group=[f"g{n}" for n in range(200)])
    (note,) = notes(parts, ["bad", "good"], 0)
    assert note.startswith("note: data.group_column: each row has a group of its own")
    assert notes(splits(TEXTS, LABELS, group=["a", "b"] * 100), ["bad", "good"], 0) == []


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
