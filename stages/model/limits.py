"""How many tokens of a text the model can read.

Worked out from its weights and its configuration, or else by trying it.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch

from stages.core.errors import ModelError

# The last part of a position table's name. Tables of distances between tokens have other names.
POSITIONS = re.compile(r"(embed_)?positions?(al)?(_ids)?(_?embed\w*|_?encod\w*)?|wpe|pos_embed\w*")
# What architectures call the number of positions in their configuration.
SPELLINGS = (
    *("max_position_embeddings", "n_positions", "max_positions", "n_ctx", "seq_length"),
    *("max_seq_len", "max_seq_length", "max_sequence_length", "max_seqlen", "max_len"),
)
MATRIX = 2
SHORTEST = 8  # tokens: the least that data.max_length may be
TRIED = 2048  # tokens, where neither weights nor configuration say anything


def position_limit(model: Any) -> int | None:
    """Return the largest number of tokens that the model can read, None if there is no limit.

    It is the least of the rows of its position tables, less those that the architecture leaves out,
    and of what its configuration says. Where neither exists, one row is run through the encoder.
    """
    known = [*_rows_of_tables(model), *_configured(model.config)]
    return min(known) if known else _tried(model)


def _rows_of_tables(model: Any) -> Iterator[int]:
    """Yield how many positions each position table of the encoder has."""
    encoder = getattr(model, model.base_model_prefix, model)
    for name, module in encoder.named_modules():
        weight = getattr(module, "weight", None)  # (positions, hidden)
        if not isinstance(weight, torch.Tensor) or weight.ndim != MATRIX:
            continue
        if not POSITIONS.fullmatch(name.rpartition(".")[2]):
            continue
        padding = getattr(module, "padding_idx", None)  # RoBERTa counts from padding_idx + 1
        yield int(weight.shape[0]) - (0 if padding is None else int(padding) + 1)


def _configured(config: Any) -> Iterator[int]:
    for name in SPELLINGS:
        value = getattr(config, name, None)
        if isinstance(value, (int, float)) and not isinstance(value, bool) and value >= 1:
            yield int(value)


def _tried(model: Any) -> int | None:
    """Return the longest row that the encoder can read, None if it reads TRIED tokens."""
    return None if _reads(model, TRIED) else max(_longest(model, TRIED), 1)


def _longest(model: Any, unreadable: int) -> int:
    """Return the longest row that the encoder can read, below one that it cannot; 0 for none."""
    low, high = 0, unreadable
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if _reads(model, middle) else (low, middle)
    return low


def check_length(model: Any, max_length: int, folder: Path) -> None:
    """Run one row of the longest length through the encoder, before the first step needs it.

    Args:
        model: the classifier, on the CPU.
        max_length: tokens of the longest text that it will read.
        folder: for the error.

    Raises:
        ModelError: if the encoder cannot read it, with the longest length that it can.
    """
    if _reads(model, max_length):
        return
    longest = _longest(model, max_length)
    raise ModelError(
        f"{folder}: the encoder reads {longest} tokens at most, not {max_length}",
        f"set data.max_length to {longest}"
        if longest >= SHORTEST
        else "choose another encoder: this one cannot be used here",
    )


def _reads(model: Any, tokens: int) -> bool:
    padding = getattr(model.config, "pad_token_id", None)
    ids = torch.full((1, tokens), 1 if padding != 1 else 0)
    training = model.training
    model.eval()
    try:
        with torch.no_grad():
            encoder = getattr(model, model.base_model_prefix, model)
            encoder(input_ids=ids, attention_mask=torch.ones_like(ids))
    except (IndexError, RuntimeError, ValueError, TypeError):
        return False
    finally:
        model.train(training)
    return True
