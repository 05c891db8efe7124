"""Texts encoded, and batched without losing one."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from stages.shared.dataset import batches, encode


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
