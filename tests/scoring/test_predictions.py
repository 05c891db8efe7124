"""Prediction files: written, read back, paired, and refused when they are damaged."""

from __future__ import annotations

from io import BytesIO
from pathlib import Path

import numpy as np
import pytest

from stages.core.errors import DataError, ModelError, UserError
from stages.scoring.predictions import (
    aligned,
    labels_of,
    probabilities_of,
    read_predictions,
    targets_of,
    write_predictions,
)

HEADER = "id,label,predicted,p_no,p_yes\n"
SWAPPED = ["a,no,no,0.1,0.9", "b,yes,no,0.4,0.6", "c,yes,yes,0.7,0.3"]
ROWS = ["a,no,no,0.9,0.1", "b,yes,no,0.6,0.4", "c,yes,yes,0.3,0.7"]


def text(rows: list[str], header: str = HEADER) -> bytes:
    return (header + "".join(f"{row}\n" for row in rows)).encode()


def read(content: bytes) -> object:
    return read_predictions(BytesIO(content), "x.csv", "correct it")


def test_predictions_are_written_a_row_a_line(tmp_path: Path) -> None:
    file = tmp_path / "deep" / "x.csv"
    table = np.array([[0.25, 0.75], [1 / 3, 2 / 3]])
    write_predictions(file, ["id0", "id1"], [1, 0], ["a,b", "1"], table)
    assert file.read_bytes() == (
        b'id,label,predicted,"p_a,b",p_1\nid0,1,1,0.25,0.75\nid1,"a,b",1,0.333333333,0.666666667\n'
    )


@pytest.mark.parametrize("shape", [(2, 3), (3, 2), (2, 1)])
def test_probabilities_for_other_classes_or_rows_are_refused(
    tmp_path: Path, shape: tuple[int, int]
) -> None:
    with pytest.raises(ModelError, match=r"probabilities for 2 rows and 2 labels"):
        write_predictions(tmp_path / "x.csv", ["i", "j"], [1, 0], ["a", "b"], np.full(shape, 0.5))
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("labels", [["0", "1"], ["01", "1"], ["NA", "null"], ["a,b", 'q"', " "]])
def test_what_is_written_is_read_back(tmp_path: Path, labels: list[str]) -> None:
    chance = np.random.default_rng(1)
    table = chance.dirichlet(np.ones(len(labels)), size=50)
    targets = chance.integers(len(labels), size=50).tolist()
    ids = [f"{number}e5" for number in range(50)]
    write_predictions(tmp_path / "x.csv", ids, targets, labels, table)
    frame = read_predictions(tmp_path / "x.csv", "x.csv", "correct it")
    assert labels_of(frame) == labels
    assert frame["id"].tolist() == ids
    assert targets_of(frame).tolist() == targets
    assert probabilities_of(frame) == pytest.approx(table, rel=1e-8)


@pytest.mark.parametrize(
    ("content", "error", "message"),
    [
        (b"", DataError, "cannot be read"),
        (b"\n", DataError, "cannot be read"),
        (b"\xff\xfe\x00", DataError, "cannot be read"),
        (b'"', DataError, "cannot be read"),
        (text([]), DataError, "holds no predictions"),
        (text([*ROWS, ROWS[0]]), DataError, "line 5: its id occurs twice"),
        (text([ROWS[0], "b,yes,no,nan,0.4"]), DataError, "line 3: a probability is not finite"),
        (text([ROWS[0], "b,yes,no,inf,0.4"]), DataError, "line 3: a probability is not finite"),
        (text([ROWS[0], "b,yes,no,,0.4"]), DataError, "cannot be read"),
        (text([ROWS[0], "b,yes,no,-0.1,1"]), DataError, "line 3: a probability is not from 0 to 1"),
        (text([ROWS[0], "b,yes,no,1.5,0"]), DataError, "line 3: a probability is not from 0 to 1"),
        (text([ROWS[0], "b,yes,no,x,0"]), DataError, "cannot be read"),
        (text([f"a,no,no,{'9' * 400},0"]), DataError, "cannot be read"),
        (text([f"a,no,no,{'9' * 5000},0"]), DataError, "line 2: a probability is not finite"),
        (text([ROWS[0], f"b,yes,no,{'9' * 20},0"]), DataError, "line 3: a probability is not from"),
        (text([ROWS[0], "b,yes,no,0,1,7"]), DataError, "cannot be read"),
        (text([ROWS[0], "b,yes,no,0.9,0.9"]), DataError, "line 3: its probabilities do not sum to"),
        (text([ROWS[0], "b,yes,no,0.4,0.6"]), DataError, "line 3: its predicted class is not the"),
        (text(ROWS)[:-2], DataError, "line 4: its probabilities do not sum to 1"),
        (text(ROWS, "id,label,predicted,p_yes,p_no\n"), DataError, "line 2: its predicted class"),
        (
            text([f"{row},0.5" for row in ROWS], HEADER.replace("\n", ",note\n")),
            DataError,
            "its other columns are not p_<class>",
        ),
        (text([ROWS[0], "b,maybe,no,0,1"]), ModelError, "line 3: label maybe is no class"),
        (text([ROWS[0], "b,no,May,0,1"]), ModelError, "line 3: predicted May is no class"),
        (text(ROWS, "id,predicted,label,p_no,p_yes\n"), DataError, "its first columns are not id"),
        (text(ROWS, "id,label,predicted,p_no,other\n"), DataError, "holds no predictions"),
        (text(ROWS)[:-30], DataError, "x.csv: "),
    ],
)
def test_a_damaged_file_is_refused(content: bytes, error: type[UserError], message: str) -> None:
    with pytest.raises(error) as caught:
        read(content)
    assert message in str(caught.value)
    assert str(caught.value).startswith("error: x.csv: ")
    assert str(caught.value).endswith("Fix: correct it")


def test_of_equals_either_may_be_predicted() -> None:
    read(text(["a,no,no,0.5,0.5", "b,yes,yes,0.5,0.5"]))


def test_a_missing_file_is_for_the_caller_to_name(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        read_predictions(tmp_path / "x.csv", "x.csv", "correct it")


def test_a_hostile_value_is_shown_as_one_safe_line() -> None:
    with pytest.raises(ModelError) as caught:
        read(text([ROWS[0], "b,\x1b[31mred,no,0,1"]))
    assert "\x1b" not in str(caught.value)


def pair(first: bytes, second: bytes) -> list[list[str]]:
    both = aligned(read(first), read(second), ("one", "two"), "correct it")  # type: ignore[arg-type]
    return [frame["id"].tolist() for frame in both]


def test_rows_are_paired_by_their_id() -> None:
    assert pair(text(ROWS), text(ROWS[::-1])) == [["a", "b", "c"], ["a", "b", "c"]]


@pytest.mark.parametrize(
    ("second", "error", "message"),
    [
        (text(ROWS[:2]), DataError, "one and two: other test rows: 1 rows are in one"),
        (text([*ROWS[:2], "d,no,no,1,0"]), DataError, "other test rows: 2 rows"),
        (text(["a,yes,no,0.9,0.1", *ROWS[1:]]), DataError, "disagree on the true label of row a"),
        (text(SWAPPED, "id,label,predicted,p_yes,p_no\n"), ModelError, "have other classes: "),
    ],
)
def test_files_that_do_not_pair_are_refused(
    second: bytes, error: type[UserError], message: str
) -> None:
    with pytest.raises(error, match="Fix: correct it") as caught:
        pair(text(ROWS), second)
    assert message in str(caught.value)


def test_test_rows_of_one_class_are_refused() -> None:
    rows = [ROWS[1], ROWS[2]]
    with pytest.raises(DataError, match="one: every test row is of the class yes"):
        pair(text(rows), text(rows))
