"""Texts encoded, and batched without losing one."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from stages.model import tokens as dataset
from stages.model.tokens import batches, encode, padded


def test_a_text_is_cut_with_its_special_tokens(load_tiny_base: Any) -> None:
    tokenizer = load_tiny_base("bert").tokenizer
    cls, sep = tokenizer.cls_token_id, tokenizer.sep_token_id
    word = tokenizer.convert_tokens_to_ids("w1")
    encoded = encode(tokenizer, ["w1", "", "w1 " * 100], 8)
    assert [encoded[row].tolist() for row in range(len(encoded))] == [
        [cls, word, sep],
        [cls, sep],
        [cls, *[word] * 6, sep],
    ]
    assert len(encode(tokenizer, ["w1 " * 100], 8192)[0]) == tokenizer.model_max_length == 64


@pytest.mark.parametrize("tokens", [1, 10, 64])
def test_batches_hold_every_row_once_the_longest_first(tokens: int) -> None:
    lengths = np.array([2, 5, 1, 5, 3, 4, 2])
    found = batches(lengths, tokens)
    assert sorted(row for rows in found for row in rows) == list(range(7))
    widths = [lengths[rows].max() for rows in found]
    assert widths == sorted(widths, reverse=True)  # the longest first, where memory is short
    for rows, width in zip(found, widths, strict=True):
        assert len(rows) == 1 or len(rows) * width <= tokens
    assert len(found) == {1: 7, 10: 3, 64: 1}[tokens]


def test_a_batch_is_padded_and_masked() -> None:
    found = padded([np.array([5, 6, 7]), np.array([8])], pad_token_id=99)
    assert found["input_ids"].tolist() == [[5, 6, 7], [8, 99, 99]]
    assert found["attention_mask"].tolist() == [[1, 1, 1], [1, 0, 0]]
    assert found["input_ids"].dtype == found["attention_mask"].dtype == torch.long


def test_texts_in_portions_are_encoded_as_all_at_once(
    load_tiny_base: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    tokenizer = load_tiny_base("bert").tokenizer
    texts = ["w1 " * (number % 5) for number in range(20)]
    whole = encode(tokenizer, texts, 8)
    monkeypatch.setattr(dataset, "AT_ONCE", 7)
    portions = encode(tokenizer, texts, 8)
    assert portions.lengths.tolist() == whole.lengths.tolist()
    assert all((portions[row] == whole[row]).all() for row in range(20))
