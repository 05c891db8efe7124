"""The training rows as the Trainer takes them, one by one and as padded batches."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch

from stages.model.tokens import Encoded, padded


class TrainingRows(torch.utils.data.Dataset[dict[str, Any]]):
    """The training rows: token ids, label number, and the row's own number.

    Args:
        encoded: token ids of all texts.
        targets: label numbers, one a text.
    """

    def __init__(self, encoded: Encoded, targets: list[int]) -> None:
        self.encoded, self.targets = encoded, targets

    def __len__(self) -> int:
        return len(self.encoded)

    def __getitem__(self, row: int) -> dict[str, Any]:
        return {"input_ids": self.encoded[row], "labels": self.targets[row], "rows": row}


class Collator:
    """Pad a batch to its longest row: input_ids, attention_mask (rows, longest), labels, rows.

    Args:
        pad_token_id: the token that fills shorter rows.
    """

    def __init__(self, pad_token_id: int) -> None:
        self.pad_token_id = pad_token_id

    def __call__(self, batch: list[Mapping[str, Any]]) -> dict[str, Any]:
        """Return the rows as one batch."""
        return {
            **padded([row["input_ids"] for row in batch], self.pad_token_id),
            "labels": torch.tensor([row["labels"] for row in batch]),
            "rows": [row["rows"] for row in batch],
        }
