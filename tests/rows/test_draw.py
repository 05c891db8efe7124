"""Rows drawn into splits: sizes, shares, rare classes and limits."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from stages.core.errors import DataError
from stages.prepare import prepare
from tests.support.tiny import params_for

ROOT = Path(__file__).parents[2]
Rows = list[tuple[str, Any]]
TWO: Rows = [(f"text {number}", "pos" if number % 2 else "neg") for number in range(60)]


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def table(rows: Rows, path: str = "mine.csv") -> Path:
    file = Path(path)
    file.parent.mkdir(exist_ok=True)
    pd.DataFrame(rows, columns=["text", "label"]).to_csv(file, index=False)
    return file


def official(**splits: Rows) -> Path:
    for name, rows in splits.items():
        table(rows, f"mine/{name}.csv")
    return Path("mine")


def sizes(source: Path, **changes: Any) -> tuple[int, int, int]:
    prepare(params_for(source, **changes))
    counts = json.loads(Path("metrics/data.json").read_text(encoding="utf-8"))
    return counts["rows_train"], counts["rows_validation"], counts["rows_test"]


def refused(source: Path, **changes: Any) -> str:
    with pytest.raises(DataError) as caught:
        prepare(params_for(source, **changes))
    assert not Path("metrics/data.json").exists()
    return str(caught.value)


def test_a_limit_one_below_the_rows_leaves_out_one() -> None:
    assert sum(sizes(table(TWO), limit=59)) == 59


def test_a_large_test_share_is_heeded() -> None:
    assert sizes(table(TWO), test_fraction=0.7) == (12, 6, 42)


def test_validation_is_a_share_of_train_however_large_test_is() -> None:
    test: Rows = [(f"new {number}", "pos" if number % 2 else "neg") for number in range(400)]
    assert sizes(official(train=TWO, test=test)) == (54, 6, 400)


def test_an_emptied_test_split_is_not_drawn_anew_from_train() -> None:
    source = official(train=TWO, test=[("", "pos"), (" ", "neg")])
    assert "test.csv: no row is left" in refused(source, on_incomplete="drop")


@pytest.mark.parametrize("rows", [3, 4])
def test_a_rare_class_is_not_left_out_of_a_split_silently(rows: int) -> None:
    many: Rows = [(f"text {number}", "pos" if number % 2 else "neg") for number in range(600)]
    fault = refused(table([*many, *((f"new {n}", "rare") for n in range(rows))]))
    assert f"label rare: {rows} rows are too few" in fault


def test_a_limit_does_not_leave_out_a_class_silently() -> None:
    many: Rows = [(f"text {number}", "pos" if number % 2 else "neg") for number in range(600)]
    fault = refused(table([*many, *((f"new {n}", "rare") for n in range(6))]), limit=40)
    assert "data.limit: 40 rows leave out label rare" in fault
