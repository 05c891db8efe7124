"""From texts to batches of token ids, and back to logits in the order of the texts. No torch."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from stages.core.errors import ModelError, NumericsError, printable
from stages.model.padding import Batch, padded_arrays
from stages.serving.scorer import Logits

BATCH_TOKENS = 2048  # padded tokens in a batch: enough to keep a processor busy
AT_ONCE = 10_000  # texts; the tokenizer keeps kilobytes of each until it is done


class FolderTokenizer:
    """The tokenizer of an exported folder, without Transformers.

    Args:
        path: the folder's tokenizer.json, which says where a text is cut off.
        max_length: tokens that are read of a text.
        pad_token_id: what fills the shorter rows of a batch.

    Raises:
        ModelError: if the file is damaged.
    """

    def __init__(self, path: Path, max_length: int, pad_token_id: int) -> None:
        from tokenizers import Tokenizer

        try:
            self._tokenizer = Tokenizer.from_file(str(path))
        except Exception as error:  # the library raises Exception itself
            what = f"{printable(path)}: cannot be loaded: {printable(error, 200)}"
            raise ModelError(what, "export the folder again: bert-lora export") from error
        side = (self._tokenizer.truncation or {}).get("direction", "right")
        self._tokenizer.enable_truncation(max_length, direction=side)
        self._tokenizer.no_padding()
        self._special = self._tokenizer.num_special_tokens_to_add(is_pair=False)
        self.pad_token_id = pad_token_id

    def ids(self, texts: list[str]) -> list[list[int]]:
        """Return the token ids of each text, special tokens included, cut off at max_length."""
        return [encoding.ids for encoding in self._encodings(texts)]

    def lengths(self, texts: list[str]) -> list[int]:
        """Return how many tokens each text has, special tokens included, before it is cut off."""
        return [
            len(encoding.ids) + sum(len(rest.ids) - self._special for rest in encoding.overflowing)
            for encoding in self._encodings(texts)
        ]

    def _encodings(self, texts: list[str]) -> Iterator[Any]:
        for start in range(0, len(texts), AT_ONCE):
            yield from self._tokenizer.encode_batch_fast(texts[start : start + AT_ONCE])


def in_batches(
    tokenizer: FolderTokenizer, texts: list[str], run: Callable[[Batch], Logits], classes: int
) -> Logits:
    """Return the logits of the texts, shape (texts, classes), computed in batches of like length.

    Args:
        tokenizer: of the model that `run` is.
        texts: any number of them.
        run: the model: from a batch to its logits.
        classes: how many logits a text has.

    Raises:
        NumericsError: if a logit is not finite.
    """
    rows = tokenizer.ids(texts)
    logits = np.empty((len(rows), classes), dtype=np.float32)
    for batch in batches([len(row) for row in rows]):
        logits[batch] = run(padded_arrays([rows[row] for row in batch], tokenizer.pad_token_id))
    if not np.isfinite(logits).all():
        raise NumericsError("the export: a logit is not a finite number", "export the folder again")
    return logits


def batches(lengths: list[int]) -> list[list[int]]:
    """Return the row numbers of each batch, longest rows first, so that little is padding.

    A padded batch holds at most BATCH_TOKENS tokens, or a single row.
    """
    made: list[list[int]] = []
    room = 0  # rows that the last batch still takes
    for row in sorted(range(len(lengths)), key=lambda row: -lengths[row]):
        if not room:
            made.append([])
            room = max(1, BATCH_TOKENS // lengths[row])
        made[-1].append(row)
        room -= 1
    return made
