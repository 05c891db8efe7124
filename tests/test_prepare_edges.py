"""Stage prepare at the edges: few rows, odd fractions, hostile labels and paths."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from stages.core.errors import DataError
from stages.prepare import prepare
from tests.support.tiny import params_for

ROOT = Path(__file__).parents[1]
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


def test_labels_that_look_like_integers_are_just_labels() -> None:
    assert sum(sizes(table([(f"text {n}", ("-1", "--1")[n % 2]) for n in range(60)]))) == 60


@pytest.mark.parametrize("label", ["\\ud800", "a\\u0000"])
def test_a_label_that_cannot_be_written_is_refused(label: str) -> None:
    lines = [f'{{"text": "t{n}", "label": "{("ok", label)[n % 2]}"}}' for n in range(60)]
    Path("mine.jsonl").write_text("\n".join(lines), encoding="utf-8")
    fault = refused(Path("mine.jsonl"))
    assert "mine.jsonl: lines 2, 4, 6, 8, 10 and 25 more: the label holds" in fault


def test_bytes_are_no_label() -> None:
    frame = pd.DataFrame({"text": [f"t{n}" for n in range(60)], "label": [b"a", b"b"] * 30})
    frame.to_parquet("mine.parquet")
    assert "neither a string nor an integer" in refused(Path("mine.parquet"))


def test_a_text_repeated_a_thousand_times_is_listed_once() -> None:
    fault = refused(table([*TWO, *[("same", "pos")] * 1000, ("same", "neg")]))
    assert fault.startswith("error: mine.csv:62 and mine.csv:1062: one text with two labels")


def test_zero_width_characters_alone_are_no_text() -> None:
    fault = refused(table([*TWO, ("\u200b", "pos"), ("\u200b\u200b", "neg")]))
    assert "mine.csv: lines 62, 63: empty text" in fault


def test_a_quote_that_never_closes_is_named_by_the_row_that_opens_it() -> None:
    Path("mine.csv").write_text('text,label\na,b\n"c,d\n' + "e,f\n" * 30, encoding="utf-8")
    assert "in the row that starts on line 3" in refused(Path("mine.csv"))


def test_control_characters_of_a_path_do_not_reach_the_terminal() -> None:
    fault = refused(table([("", "pos")], "mine\x1b[2J.csv"))
    assert "\x1b" not in fault
