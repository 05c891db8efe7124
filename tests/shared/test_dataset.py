"""The prepared rows: read, encoded, and batched without losing one."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch

from stages.shared import paths
from stages.shared.dataset import Split, batches, encode, read_labels, read_split
from stages.shared.errors import DataError, HostError

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


def test_a_text_is_cut_with_its_special_tokens(standing: Any) -> None:
    tokenizer = standing("bert").tokenizer
    cls, sep = tokenizer.cls_token_id, tokenizer.sep_token_id
    word = tokenizer.convert_tokens_to_ids("w1")
    assert encode(tokenizer, ["w1", "", "w1 " * 100], 8) == [
        [cls, word, sep],
        [cls, sep],
        [cls, *[word] * 6, sep],
    ]
    assert len(encode(tokenizer, ["w1 " * 100], 8192)[0]) == tokenizer.model_max_length == 64


@pytest.mark.parametrize("size", [1, 3, 64])
def test_batches_hold_every_row_once_padded_and_masked(size: int) -> None:
    encoded = [[row + 1] * length for row, length in enumerate([2, 5, 1, 5, 3, 4, 2])]
    seen: list[int] = []
    widths: list[int] = []
    for rows, batch in batches(encoded, pad_token_id=99, size=size):
        assert batch["input_ids"].dtype == batch["attention_mask"].dtype == torch.long
        assert batch["input_ids"].shape == batch["attention_mask"].shape
        assert len(rows) <= size
        width = max(len(encoded[row]) for row in rows)
        for row, ids, mask in zip(rows, batch["input_ids"], batch["attention_mask"], strict=True):
            padding = width - len(encoded[row])
            assert ids.tolist() == encoded[row] + [99] * padding
            assert mask.tolist() == [1] * len(encoded[row]) + [0] * padding
        seen += rows
        widths.append(width)
    assert sorted(seen) == list(range(7))
    assert widths == sorted(widths, reverse=True)  # the longest first, where memory is short
    assert len(widths) == -(-7 // size)


def test_no_rows_make_no_batch() -> None:
    assert list(batches([], 0, 4)) == []
