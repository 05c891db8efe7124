"""The columns of a table: those asked for, the others, and texts that are refused."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pandas as pd
import pytest

from stages.core.errors import DataError
from stages.core.params import load_params
from stages.rows.tables import read_table
from stages.sources.locate import DataSource

DATA = load_params(Path(__file__).parents[2] / "params.yaml").data


def write(path: Path, content: str | bytes) -> Path:
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


def read(path: Path, text_column: str = "text") -> pd.DataFrame:
    params = DATA.model_copy(update={"text_column": text_column})
    return read_table(path, DataSource({"all": path}, ""), params, Counter())[0]


def rows_of(frame: pd.DataFrame) -> list[tuple[object, ...]]:
    return list(frame[["line", "text", "label"]].itertuples(index=False, name=None))


def fault_of(path: Path) -> str:
    with pytest.raises(DataError) as caught:
        read(path)
    return str(caught.value)


def test_other_columns_are_left(tmp_path: Path) -> None:
    frame = read(write(tmp_path / "m.csv", "body,id,label\nx,07,pos\n"), "body")
    assert list(frame.columns) == ["line", "text", "label"]
    assert rows_of(frame) == [(2, "x", "pos")]


def test_a_missing_column_is_guessed_and_the_others_listed(tmp_path: Path) -> None:
    fault = fault_of(write(tmp_path / "m.csv", "texts,label\na,b\n"))
    assert "no column text, did you mean texts?" in fault
    assert "name one of its columns: texts, label" in fault


def test_control_characters_of_the_data_do_not_reach_the_terminal(tmp_path: Path) -> None:
    fault = fault_of(write(tmp_path / "m.csv", "te\x1b[2Jxt,label\na,b\n"))
    assert "\x1b" not in fault
    assert "\\x1b" in fault


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
def test_a_text_that_is_not_one_is_refused(
    tmp_path: Path, name: str, content: str, expected: str
) -> None:
    fault = fault_of(write(tmp_path / name, content))
    assert expected in fault
    assert "Fix: " in fault
