"""The prepared rows and labels, read and checked."""

from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from stages.core import paths
from stages.core.errors import DataError, HostError
from stages.rows.prepared import Split, read_labels, read_split

LABELS = ["no", "yes"]
ROWS = {"id": ["a1", "b2"], "text": ["good", "bad, so"], "label": ["yes", "no"]}


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("data").mkdir()


def save(**columns: Any) -> None:
    pd.DataFrame({**ROWS, **columns}).to_parquet(paths.TEST, index=False)


def refused() -> str:
    with pytest.raises(DataError) as caught:
        read_split(paths.TEST, LABELS)
    assert str(caught.value).startswith("error: data/test.parquet: ")
    assert str(caught.value).endswith("Fix: make it again: dvc repro -f prepare")
    return str(caught.value)


def test_a_split_has_ids_texts_and_label_numbers() -> None:
    save(rating=[1.5, -2.0])
    assert read_split(paths.TEST, LABELS) == Split(["a1", "b2"], ["good", "bad, so"], [1, 0])
    assert read_split(paths.TEST, LABELS[::-1]).targets == [0, 1]


def test_a_label_outside_the_list_is_refused() -> None:
    save(label=["yes", "may\x1b[31mbe"])
    assert r"label may\x1b[31mbe is not in data/labels.json" in refused()


def test_a_missing_split_names_the_stage_that_makes_it() -> None:
    with pytest.raises(HostError, match=r"data/test.parquet not found.*dvc repro prepare"):
        read_split(paths.TEST, LABELS)


@pytest.mark.parametrize("kept", [0, 3, 100, -1, -20])
def test_a_cut_split_is_refused(kept: int) -> None:
    save()
    paths.TEST.write_bytes(paths.TEST.read_bytes()[:kept])
    assert "cannot be read" in refused()


@pytest.mark.parametrize("place", [4, -12])
def test_a_damaged_split_is_refused(place: int) -> None:
    save()
    content = bytearray(paths.TEST.read_bytes())
    content[place : place + 8] = bytes(b ^ 0xFF for b in content[place : place + 8])
    paths.TEST.write_bytes(content)
    refused()


@pytest.mark.parametrize("lost", ["id", "text", "label"])
def test_a_split_without_one_of_its_columns_is_refused(lost: str) -> None:
    rows = {name: column for name, column in ROWS.items() if name != lost}
    pd.DataFrame(rows).to_parquet(paths.TEST, index=False)
    assert lost in refused()


def test_labels_keep_their_order() -> None:
    paths.LABELS.write_text('["b", "a", "10"]\n', encoding="utf-8")
    assert read_labels() == ["b", "a", "10"]
