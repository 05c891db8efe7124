"""Texts as the model takes them: token ids, in batches without waste."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor


def encode(tokenizer: Any, texts: list[str], max_length: int) -> list[list[int]]:
    """Return the token ids of each text, special tokens included, cut at max_length."""
    limit = min(max_length, tokenizer.model_max_length)
    ids: list[list[int]] = tokenizer(
        texts, truncation=True, max_length=limit, padding=False, return_attention_mask=False
    )["input_ids"]
    return ids


def batches(
    encoded: list[list[int]], pad_token_id: int, size: int
) -> Iterator[tuple[list[int], dict[str, Tensor]]]:
    """Yield (row numbers, padded batch) over all rows, longest first, so that little is padding.

    Each batch holds `size` rows: input_ids and attention_mask of shape (rows, longest row).
    """
    order = sorted(range(len(encoded)), key=lambda row: (-len(encoded[row]), row))
    for start in range(0, len(order), size):
        rows = order[start : start + size]
        width = len(encoded[rows[0]])
        ids = torch.full((len(rows), width), pad_token_id)
        mask = torch.zeros((len(rows), width), dtype=torch.long)
        for place, row in enumerate(rows):
            ids[place, : len(encoded[row])] = torch.tensor(encoded[row])
            mask[place, : len(encoded[row])] = 1
        yield rows, {"input_ids": ids, "attention_mask": mask}
