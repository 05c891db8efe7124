"""Examples of the page: the first rows of metrics/flips.csv that were fixed and broken."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest

from stages.core import paths
from stages.core.errors import DataError
from stages.serving.examples import MOST, read_examples


def test_without_the_file_there_are_none(tmp_path: Path) -> None:
    assert read_examples(tmp_path / "flips.csv") == {"fixed": [], "broken": []}


def test_the_rows_of_a_run_are_read(project: Path) -> None:
    flips = pd.read_csv(project / paths.FLIPS, keep_default_na=False)
    examples = read_examples(project / paths.FLIPS)
    assert len(flips)
    for change, rows in examples.items():
        expected = flips[flips["change"] == change][:MOST]
        assert [row["text"] for row in rows] == expected["text"].tolist()
        for row in rows:
            right = {"fixed": "adapter", "broken": "base"}[change]
            assert row[right] == row["label"]
            assert row["base"] != row["adapter"]


def test_no_more_than_a_few_of_each_kind(tmp_path: Path) -> None:
    file = tmp_path / "flips.csv"
    line = 'fixed,"a, ""b""\nc",yes,no,yes\n'
    file.write_text("change,text,label,base_predicted,adapter_predicted\n" + 9 * line)
    examples = read_examples(file)
    assert len(examples["fixed"]) == MOST
    assert examples["fixed"][0]["text"] == 'a, "b"\nc'
    assert examples["broken"] == []


@pytest.mark.parametrize("content", [b"text\nx\n", b"change,text\nfixed,\xff\n"])
def test_another_table_is_one_line(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "flips.csv").write_bytes(content)
    with pytest.raises(DataError, match=r"flips\.csv: cannot be read"):
        read_examples(tmp_path / "flips.csv")
