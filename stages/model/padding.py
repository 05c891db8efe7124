"""Rows of token ids as one rectangle. No torch."""

from collections.abc import Sequence
from typing import Any

import numpy as np

Row = Sequence[int] | np.ndarray[Any, Any]
Batch = dict[str, np.ndarray[Any, np.dtype[np.int64]]]


def padded_arrays(rows: Sequence[Row], pad_token_id: int) -> Batch:
    """Return input_ids and attention_mask of shape (rows, longest row); no row may be empty."""
    lengths = np.array([len(row) for row in rows])
    mask = np.arange(lengths.max()) < lengths[:, None]
    ids = np.full(mask.shape, pad_token_id, dtype=np.int64)
    ids[mask] = np.concatenate(rows)  # row by row
    return {"input_ids": ids, "attention_mask": mask.astype(np.int64)}
