"""Rows as the Trainer takes them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from stages.training.data import Collator


def test_a_batch_is_padded_to_its_longest_row() -> None:
    batch: list[Mapping[str, Any]] = [
        {"input_ids": np.array([5, 6, 7]), "labels": 1, "rows": 9},
        {"input_ids": np.array([8]), "labels": 0, "rows": 2},
    ]
    made = Collator(pad_token_id=4)(batch)
    assert made["input_ids"].tolist() == [[5, 6, 7], [8, 4, 4]]
    assert made["attention_mask"].tolist() == [[1, 1, 1], [1, 0, 0]]
    assert made["labels"].tolist() == [1, 0]
    assert made["rows"] == [9, 2]
