"""The prepared rows, read and checked."""

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
def _data() -> None:
    Path("data").mkdir()


def save(**columns: Any) -> None:
    pd.DataFrame({**ROWS, **columns}).to_parquet(paths.TEST, index=False)


def refused() -> str:
    with pytest.raises(DataError) as caught:
        read_split(paths.TEST, LABELS)
    assert str(caught.value).startswith("error: data/test.parquet: ")
    assert str(caught.value).endswith("Fix: make it again: dvc repro -f prepare")
    return str(caught.value)


def test_a_split_has_ids_texts_and_label_numbers_in_the_order_of_the_labels() -> None:
    save(rating=[1.5, -2.0])
    assert read_split(paths.TEST, LABELS) == Split(["a1", "b2"], ["good", "bad, so"], [1, 0])
    paths.LABELS.write_text('["yes", "no"]\n', encoding="utf-8")
    assert read_split(paths.TEST, read_labels()).targets == [0, 1]


def test_a_split_that_is_not_what_prepare_wrote_is_refused() -> None:
    with pytest.raises(HostError, match=r"data/test.parquet not found.*dvc repro prepare"):
        read_split(paths.TEST, LABELS)
    save(label=["yes", "may\x1b[31mbe"])
    assert r"label may\x1b[31mbe is not in data/labels.json" in refused()
    for lost in ROWS:
        rows = {name: column for name, column in ROWS.items() if name != lost}
        pd.DataFrame(rows).to_parquet(paths.TEST, index=False)
        assert lost in refused()
    save()
    whole = paths.TEST.read_bytes()
    for kept in (0, 3, 100, -1, -20):  # cut
        paths.TEST.write_bytes(whole[:kept])
        assert "cannot be read" in refused()
    for place in (4, -12):  # damaged
        content = bytearray(whole)
        content[place : place + 8] = bytes(b ^ 0xFF for b in content[place : place + 8])
        paths.TEST.write_bytes(content)
        refused()
