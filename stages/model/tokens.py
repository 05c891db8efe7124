"""Texts as the model reads them: token ids, in batches with little padding."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import chain
from typing import Any

import numpy as np
import torch
from torch import Tensor

from stages.model.padding import padded_arrays

Array = np.ndarray[Any, Any]
AT_ONCE = 10_000  # texts; the tokenizer keeps kilobytes of each until it is done


class Encoded:
    """Token ids of many texts in one array: as lists they would need ten times the memory.

    Args:
        ids: shape (tokens,), the texts one after another.
        lengths: shape (texts,), the tokens of each.
    """

    def __init__(self, ids: Array, lengths: Array) -> None:
        self.lengths = lengths
        self._ids, self._ends = ids, lengths.cumsum()

    def __len__(self) -> int:
        return len(self.lengths)

    def __getitem__(self, row: int) -> Array:
        end = self._ends[row]
        return self._ids[end - self.lengths[row] : end]


def encode(tokenizer: Any, texts: list[str], max_length: int) -> Encoded:
    """Return the token ids of each text, special tokens included, cut at max_length.

    A text without any token is read as one unknown token, so that no row is empty.
    """
    empty = [_stand_in(tokenizer)]
    limit = min(max_length, tokenizer.model_max_length)
    ids, lengths = [np.empty(0, dtype=np.int32)], []
    for start in range(0, len(texts), AT_ONCE):
        token_ids: list[list[int]] = tokenizer(
            texts[start : start + AT_ONCE],
            truncation=True,
            max_length=limit,
            padding=False,
            return_attention_mask=False,
        )["input_ids"]
        token_ids = [row or empty for row in token_ids]
        lengths += [len(row) for row in token_ids]
        ids.append(np.fromiter(chain.from_iterable(token_ids), dtype=np.int32))
    return Encoded(np.concatenate(ids), np.array(lengths, dtype=np.int64))


def _stand_in(tokenizer: Any) -> int:
    """Return the token for a text that has none."""
    known = (tokenizer.unk_token_id, tokenizer.sep_token_id, tokenizer.pad_token_id)
    return int(next((token for token in known if token is not None), 0))


def batches(lengths: Array, tokens: int) -> list[list[int]]:
    """Return the row numbers of each batch over all rows, longest first, so that little is padding.

    A padded batch holds at most `tokens` tokens, or a single row.
    """
    made: list[list[int]] = []
    widest = 0
    for row in np.argsort(-lengths, kind="stable").tolist():
        if not made or (len(made[-1]) + 1) * widest > tokens:
            made.append([])
            widest = int(lengths[row])
        made[-1].append(row)
    return made


def padded(rows: Sequence[Array], pad_token_id: int) -> dict[str, Tensor]:
    """Return input_ids and attention_mask of shape (rows, longest row) as int64."""
    arrays = padded_arrays(rows, pad_token_id)
    return {name: torch.from_numpy(array) for name, array in arrays.items()}
