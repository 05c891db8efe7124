"""The columns of a table: those asked for, the others, and texts that are refused."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest

from stages.core.errors import DataError
from stages.rows.tables import read_table


def write(path: Path, content: str | bytes) -> Path:
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


def read(path: Path) -> pd.DataFrame:
    return read_table(path, "text", "label")


def rows_of(frame: pd.DataFrame) -> list[tuple[object, ...]]:
    return list(frame[["line", "text", "label"]].itertuples(index=False, name=None))


def fault_of(path: Path) -> str:
    with pytest.raises(DataError) as caught:
        read(path)
    return str(caught.value)


def test_other_columns_are_kept(tmp_path: Path) -> None:
    path = write(tmp_path / "m.csv", "body,id,label\nx,07,pos\n")
    frame = read_table(path, "body", "label")
    assert frame["id"].tolist() == ["07"]
    assert rows_of(frame) == [(2, "x", "pos")]


def test_a_table_without_labels_can_be_read(tmp_path: Path) -> None:
    path = write(tmp_path / "m.csv", "text\nx\ny\n")
    assert read_table(path, "text", None)["text"].tolist() == ["x", "y"]


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
        ("m.jsonl", '{"text": 5, "label": 1}', "line 1: the text is not a string"),
    ],
)
def test_a_text_that_is_not_one_is_refused(
    tmp_path: Path, name: str, content: str, expected: str
) -> None:
    fault = fault_of(write(tmp_path / name, content))
    assert expected in fault
    assert "Fix: " in fault
