"""The answers as JSON lines and as files: safe for a terminal, and complete or absent."""

from __future__ import annotations

import json
from pathlib import Path

import pandas as pd
import pytest

from stages.tools.predict_output import OUTPUT_ENDINGS, json_line, write_file

ROWS = [
    {"text": "good\u2028w1", "label": "positive", "probability": 0.75},
    {"text": 'a "quoted", text', "label": "negative", "probability": 0.5},
]


def test_a_json_line_is_one_line_for_every_reader() -> None:
    line = json_line({"text": "schön \x1b[2J\u2028\u202e\x85"})
    assert len(line.splitlines()) == 1
    assert json.loads(line)["text"] == "schön \x1b[2J\u2028\u202e\x85"
    assert "schön" in line


@pytest.mark.parametrize("ending", OUTPUT_ENDINGS)
def test_a_file_that_was_there_is_replaced(tmp_path: Path, ending: str) -> None:
    file = tmp_path / f"answers{ending}"
    file.write_text("old", encoding="utf-8")
    write_file(ROWS, file)
    if ending == ".parquet":
        rows = pd.read_parquet(file).to_dict("records")
    elif ending == ".jsonl":
        rows = [json.loads(line) for line in file.read_text(encoding="utf-8").split("\n")[:-1]]
    else:
        rows = pd.read_csv(file).to_dict("records")
    assert rows == ROWS
    assert list(tmp_path.iterdir()) == [file]


@pytest.mark.parametrize("ending", OUTPUT_ENDINGS)
def test_a_failed_write_leaves_the_old_file(tmp_path: Path, ending: str) -> None:
    file = tmp_path / f"answers{ending}"
    file.write_text("old", encoding="utf-8")
    with pytest.raises(UnicodeEncodeError):
        write_file([{"text": "\udcff"}], file)
    assert file.read_text(encoding="utf-8") == "old"
    assert list(tmp_path.iterdir()) == [file]
