"""Labels: their order as classes, what is refused as one, and lists that are written as text."""

from pathlib import Path

import pandas as pd
import pytest

from stages.core.errors import DataError
from stages.rows.labels import label_list, note_on_lists
from stages.sources.locate import DataSource


def listed(labels: list[str], names: tuple[str, ...] | None = None, tested: int = 0) -> list[str]:
    """Return the classes of rows, of which the last ones are those of a test split."""
    rows = pd.DataFrame({"label": labels, "split": "all", "file": "f", "line": range(len(labels))})
    rows.loc[len(rows) - tested :, "split"] = "test"
    return label_list(rows, DataSource({"all": (Path("f"),)}, "", label_names=names))


@pytest.mark.parametrize(
    ("labels", "names", "expected"),
    [
        (["b", "a"], None, ["a", "b"]),
        (["10", "9", "-1"], None, ["-1", "9", "10"]),
        (["-1", "--1"], None, ["--1", "-1"]),
        (["10", "9", "x"], None, ["10", "9", "x"]),
        (["1", "01"], None, ["01", "1"]),
        (["1" * 30, "2"], None, ["1" * 30, "2"]),
        (["²", "1"], None, ["1", "²"]),
        (["pos", "neg"], ("pos", "other", "neg"), ["pos", "neg"]),
        (["pos", "new"], ("pos", "neg"), ["new", "pos"]),
    ],
)
def test_the_order_of_the_classes(
    labels: list[str], names: tuple[str, ...] | None, expected: list[str]
) -> None:
    assert listed(labels * 3, names) == expected


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        (["a"] * 9, "error: f: label: only one class, a. Fix: "),
        ([f"t{n}" for n in range(60)], "error: f: label: 60 different labels in 60 rows. Fix: "),
        ([f"c{n:04}" for n in range(1001)] * 3, "error: f: label: 1001 different labels in 3003"),
        (["pos", "neg"] * 5 + ["POS"], "line 10: label POS differs from another in case, spaces"),
        (["a b", "c"] * 5 + ["a  b"], "line 10: label a  b differs from another in case, spaces"),
        (["pos", "c"] * 5 + ["po\u200es"], "line 10: label po\\u200es differs from another in cas"),
        (
            ["pos", "c"] * 5 + ["\uff50os"],
            "line 10: label \uff50os differs from another in case",
        ),
    ],
)
def test_what_is_no_list_of_classes_is_refused(labels: list[str], message: str) -> None:
    with pytest.raises(DataError) as caught:
        listed(labels)
    assert message in str(caught.value)


@pytest.mark.parametrize("label", ["postive", "Positive"])
def test_a_misspelt_label_of_the_test_split_is_named_with_a_suggestion(label: str) -> None:
    message = f"line 10: label {label} is not in train, did you mean positive?"
    with pytest.raises(DataError, match=message):
        listed(["positive", "negative"] * 5 + [label], tested=1)


@pytest.mark.parametrize(
    ("labels", "lists"),
    [
        (["['late']", "['rude']", "['late', 'rude']"] * 10, 30),
        (["[late]", "[rude]", "[late, rude]"] * 10, 10),
        (['["late"]'] + ["late", "rude"] * 50, 1),
        (["late", "rude", "late,rude"] * 10, 10),
        (["late,rude", "rude; cold", "cold|late"] * 10, 30),
        (["late", "rude"] * 20 + ["late,rude"] * 2, 0),  # few: a slip, or a class
        (["Texas, USA", "Ohio, USA", "Rome, Italy"] * 10, 0),
        (["(a)", "[b]", "{c}"] * 10, 0),
    ],
)
def test_lists_written_as_text_are_noted(labels: list[str], lists: int) -> None:
    notes = note_on_lists(pd.Series(labels))
    expected = f"{lists} of {len(labels)} labels are lists written as text, such as "
    assert [note.startswith(expected) and "multi-label" in note for note in notes] == [True] * (
        lists > 0
    )
