"""Rows drawn into splits: sizes, shares, rare classes and limits."""

from pathlib import Path

import pytest

from tests.support.tables import Rows, assert_not_prepared, official, sizes, table

ROOT = Path(__file__).parents[2]
TWO: Rows = [(f"text {number}", "pos" if number % 2 else "neg") for number in range(60)]


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def test_a_limit_one_below_the_rows_leaves_out_one() -> None:
    assert sum(sizes(table(TWO), limit=59)) == 59


def test_a_large_test_share_is_heeded() -> None:
    assert sizes(table(TWO), test_fraction=0.7) == (12, 6, 42)


def test_validation_is_a_share_of_train_however_large_test_is() -> None:
    test: Rows = [(f"new {number}", "pos" if number % 2 else "neg") for number in range(400)]
    assert sizes(official(train=TWO, test=test)) == (54, 6, 400)


def test_an_emptied_test_split_is_not_drawn_anew_from_train() -> None:
    source = official(train=TWO, test=[("", "pos"), (" ", "neg")])
    assert "test.csv: no row is left" in assert_not_prepared(source, on_incomplete="drop")


@pytest.mark.parametrize("rows", [3, 4])
def test_a_rare_class_is_not_left_out_of_a_split_silently(rows: int) -> None:
    many: Rows = [(f"text {number}", "pos" if number % 2 else "neg") for number in range(600)]
    fault = assert_not_prepared(table([*many, *((f"new {n}", "rare") for n in range(rows))]))
    assert f"label rare: {rows} rows are too few" in fault


def test_a_limit_does_not_leave_out_a_class_silently() -> None:
    many: Rows = [(f"text {number}", "pos" if number % 2 else "neg") for number in range(600)]
    fault = assert_not_prepared(table([*many, *((f"new {n}", "rare") for n in range(6))]), limit=40)
    assert "data.limit: 40 rows leave out label rare" in fault
