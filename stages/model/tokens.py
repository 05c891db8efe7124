"""Texts as the model reads them: token ids, in batches with little padding."""

import json
from collections.abc import Iterator, Sequence
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from transformers import AutoTokenizer

from stages.core.errors import ModelError, printable
from stages.model.padding import padded_arrays
from stages.sources.model_folder import TOKENIZER_CONFIG, max_length_of

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

    def __iter__(self) -> Iterator[Array]:
        return (self[row] for row in range(len(self)))

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


INPUTS = ["input_ids", "attention_mask"]
FETCH = "dvc repro -f fetch_base"


def load_tokenizer(folder: Path) -> Any:
    """Return the tokenizer of a model folder.

    Its `model_max_length` is a whole number, however the folder writes it.

    Raises:
        ModelError: if it cannot be read, with what the library says of it.
    """
    try:
        settings = json.loads((folder / TOKENIZER_CONFIG).read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        settings = {}  # there is none, or the loader says what is wrong with it
    try:
        tokenizer = AutoTokenizer.from_pretrained(
            folder, local_files_only=True, trust_remote_code=False, model_input_names=INPUTS
        )
        tokenizer.get_vocab()
        limit = max_length_of(settings)
    except Exception as error:  # a damaged file makes the loaders raise anything
        cause = printable(" ".join(str(error).split()) or type(error).__name__, 300)
        raise ModelError(
            f"{folder}: its tokenizer cannot be read: {cause}",
            f"install the library if one is named; otherwise fetch it again: {FETCH}",
        ) from error
    if limit is not None:
        tokenizer.model_max_length = limit
    elif "model_max_length" in settings:
        tokenizer.model_max_length = int(1e30)
    return tokenizer


def check_tokenizer(tokenizer: Any, model: Any, folder: Path, pooling: str) -> None:
    """Check that the model can read what the tokenizer gives it.

    Args:
        tokenizer: of the folder.
        model: of the folder.
        folder: for the error.
        pooling: what the head reads, as `classifier.set_pooling` returned it.

    Raises:
        ModelError: with one line for each fault: no padding token, tokens that the model has no
            embedding for, or no token in front of the text where the head reads the first one.
    """
    faults = list(_faults(tokenizer, model, pooling))
    if faults:
        raise ModelError.from_faults([(f"{folder}: {what}", fix) for what, fix in faults])


def _faults(tokenizer: Any, model: Any, pooling: str) -> Iterator[tuple[str, str]]:
    known, vocabulary = _embeddings(model), tokenizer.get_vocab()
    tokens = max(vocabulary.values(), default=-1) + 1
    own = "use an encoder together with its own tokenizer"
    if tokenizer.pad_token_id is None:
        yield "the tokenizer has no padding token", own
    special = tokenizer.num_special_tokens_to_add()
    if tokenizer.model_max_length <= special:
        yield (
            f"the tokenizer keeps {tokenizer.model_max_length} tokens of a text, {special} of "
            "which are its own",
            f"set model_max_length in the model's {TOKENIZER_CONFIG} to what the model can read",
        )
    if not set(vocabulary) - set(tokenizer.all_special_tokens):
        yield (
            "the tokenizer has no tokens but its special ones: a file of it is damaged or missing",
            f"fetch it again: {FETCH}",
        )
    elif known is not None and tokens > known:
        yield f"the tokenizer has {tokens} tokens, the model only {known}", own
    elif pooling != "mean" and not marks_the_start(tokenizer):
        yield (
            "the tokenizer puts no token such as [CLS] in front of a text, and the head reads "
            "nothing but the first token",
            "set model.pooling to mean in params.yaml, or use a tokenizer that adds the token",
        )


def _embeddings(model: Any) -> int | None:
    """Return how many tokens the model has an embedding for, None where it has no such table."""
    try:
        return int(model.get_input_embeddings().num_embeddings)
    except (NotImplementedError, AttributeError):
        return None


def marks_the_start(tokenizer: Any) -> bool:
    """Return whether the tokenizer puts a token of its own in front of a text."""
    marked = tokenizer("a")["input_ids"]
    bare = tokenizer("a", add_special_tokens=False)["input_ids"]
    return len(marked) > len(bare) and bool(marked[1 : len(bare) + 1] == bare)
