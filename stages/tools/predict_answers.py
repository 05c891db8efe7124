"""Ask the model for `bert-lora predict`: from a stream of texts to rows, a chunk at a time."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from itertools import islice
from typing import TYPE_CHECKING, Any

from stages.core import paths
from stages.core.artefacts import require, sha256_of
from stages.core.params import ComputeParams
from stages.tools.predict_output import Row
from stages.tools.predict_resume import chunk_sizes

if TYPE_CHECKING:  # heavy libraries are imported once the texts have been checked
    from stages.serving.predictor import Predictor

DIGITS = 9  # of a probability
Chunk = tuple[list[Row], list[str]]  # rows, and the labels


def made_by(compute: ComputeParams, with_base: bool, every_class: bool) -> dict[str, Any]:
    """Return what the answers depend on besides the texts."""
    # The manifest has the hashes of the adapter and of its base, which are checked on loading.
    manifest = paths.ADAPTER_MANIFEST
    return {
        "model": sha256_of(manifest) if manifest.is_file() else None,
        "--with-base": sha256_of(require(paths.HEAD_WEIGHTS)) if with_base else False,
        "--all": every_class,
        "compute.device": compute.device,
        "compute.precision": compute.precision,
    }


def answers(
    texts: Iterator[str],
    compute: ComputeParams,
    with_base: bool,
    every_class: bool,
    answered: int = 0,
) -> Iterator[Chunk]:
    """Yield the rows for the texts in chunks, and the labels: text, label, probability.

    With base also base_label, ...; with `every_class`, p_<class> (and base_p_<class>) follow.
    Probabilities are in [0, 1].

    Args:
        texts: what is still to be answered, in memory a chunk at a time.
        compute: device, precision and threads.
        with_base: whether the base answers too.
        every_class: whether to give the probability of every class.
        answered: how many rows are answered already; a whole number of chunks.

    Raises:
        HostError: if a model is missing.
        ModelError: if a file is damaged, or the adapter does not belong to the base.
    """
    from stages.serving.predictor import Predictor

    predictor = Predictor.load(compute, with_base)
    cut = count = place = 0
    for size in chunk_sizes():
        place += size
        if place <= answered:
            continue
        chunk = list(islice(texts, size))
        if not chunk:
            break
        cut += predictor.count_cut(chunk)
        count += len(chunk)
        tables = {"": predictor.probabilities(chunk)}
        if with_base:
            tables["base_"] = predictor.base_probabilities(chunk)
        scores = {who: table.round(DIGITS).tolist() for who, table in tables.items()}
        yield _rows(chunk, predictor.labels, scores, every_class), predictor.labels
    _note_cut(predictor, cut, count)


def _rows(
    texts: list[str], labels: list[str], scores: dict[str, list[list[float]]], every_class: bool
) -> list[Row]:
    """Return a row for each text; `scores` holds each model's (rows, classes) by its prefix."""
    rows: list[dict[str, Any]] = [{"text": text} for text in texts]
    for number, row in enumerate(rows):
        for who, table in scores.items():
            best = max(table[number])
            row |= {f"{who}label": labels[table[number].index(best)], f"{who}probability": best}
        for who, table in scores.items() if every_class else ():
            row |= {f"{who}p_{label}": table[number][at] for at, label in enumerate(labels)}
    return rows


def _note_cut(predictor: Predictor, cut: int, count: int) -> None:
    """Report on standard error how many texts are cut."""
    if cut:
        tokens = min(predictor.max_length, predictor.adapter.tokenizer.model_max_length)
        what = f"{cut:,} of {count:,} texts have more than {tokens} tokens"
        print(f"note: {what}; the rest of them is not read", file=sys.stderr)
