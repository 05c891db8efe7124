"""The prepared rows: read a split, turn its texts into token ids, batch them without waste."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from torch import Tensor

from stages.shared import paths
from stages.shared.artefacts import read_json, require
from stages.shared.errors import DataError, printable


@dataclass(frozen=True)
class Split:
    """Rows of one split: ids, texts, and label numbers into the label list."""

    ids: list[str]
    texts: list[str]
    targets: list[int]


def read_labels() -> list[str]:
    """Return the class names, in the order of the logits."""
    return [str(label) for label in read_json(paths.LABELS)]


def read_split(path: Path, labels: list[str]) -> Split:
    """Read a split that stage prepare wrote.

    Raises:
        HostError: if the file is missing.
        DataError: if it is damaged, or holds a label outside the list.
    """
    fix = "make it again: dvc repro -f prepare"
    try:
        frame = pd.read_parquet(require(path), columns=["id", "text", "label"])
    except PermissionError:
        raise
    except (OSError, ValueError, KeyError) as error:  # pyarrow tells of damage by an OSError, too
        raise DataError(f"{path}: cannot be read: {printable(error)}", fix) from error
    number = {label: index for index, label in enumerate(labels)}
    unknown = sorted(set(frame["label"]) - set(number))
    if unknown:
        raise DataError(f"{path}: label {printable(unknown[0])} is not in {paths.LABELS}", fix)
    return Split(
        frame["id"].tolist(), frame["text"].tolist(), [number[label] for label in frame["label"]]
    )


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
