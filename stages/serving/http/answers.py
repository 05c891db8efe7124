"""From texts to answers: the work of a batch, and labels with their probabilities."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from stages.core.errors import NumericsError
from stages.serving.http.schema import Answer, Prediction
from stages.serving.scorer import Scorer, probabilities_of
from stages.serving.served import Served

DIGITS = 9  # of a probability, as `bert-lora predict` prints it
SPECIAL = 8  # tokens outside the text, at most
Row = np.ndarray[Any, np.dtype[np.float32]]


@dataclass(frozen=True)
class Question:
    """A text to be answered."""

    text: str
    with_base: bool


@dataclass(frozen=True)
class Scored:
    """The logits of a text, shape (classes,), those of the base if wanted, and if it was cut."""

    logits: Row
    base: Row | None
    cut: bool


def score(served: Served, questions: list[Question]) -> list[Scored]:
    """Return the logits of a batch; the scorers sort it by length.

    Raises:
        NumericsError: if one of them is not a finite number.
    """
    texts = [question.text for question in questions]
    logits = finite(served.model, texts)
    cut = are_cut(served.model, texts)
    wanted = [number for number, question in enumerate(questions) if question.with_base]
    of_base: dict[int, Row] = {}
    if served.base is not None and wanted:
        rows = finite(served.base, [texts[number] for number in wanted])
        of_base = dict(zip(wanted, rows, strict=True))
    return [
        Scored(row, of_base.get(number), is_cut)
        for number, (row, is_cut) in enumerate(zip(logits, cut, strict=True))
    ]


def finite(scorer: Scorer, texts: list[str]) -> Row:
    """Return the scorer's logits, shape (texts, classes).

    Raises:
        NumericsError: if one of them is not a finite number.
    """
    logits = scorer.score(texts)
    if not np.isfinite(logits).all():
        what = f"{scorer.description}: a logit is not a finite number"
        raise NumericsError(what, "train with a lower train.learning_rate")
    return logits


def are_cut(scorer: Scorer, texts: list[str]) -> list[bool]:
    """Return for each text whether it has more tokens than are read.

    No token is shorter than a byte, so only long texts are counted.
    """
    cut = [False] * len(texts)
    read = scorer.max_length
    long = [n for n, text in enumerate(texts) if len(text.encode()) + SPECIAL > read]
    if long:
        for number, length in zip(long, scorer.lengths([texts[n] for n in long]), strict=True):
            cut[number] = length > read
    return cut


def answer(
    served: Served, scored: Scored, calibrated: bool, every_class: bool, with_base: bool
) -> Answer:
    """Return the answer to one text."""
    own = predict(served.model, scored.logits, calibrated, every_class)
    base = None
    if with_base and served.base is not None and scored.base is not None:
        base = predict(served.base, scored.base, calibrated, every_class)
    return Answer(**own.model_dump(), cut=True if scored.cut else None, base=base)


def predict(scorer: Scorer, logits: Row, calibrated: bool, every_class: bool) -> Prediction:
    """Return the likeliest class and its probability, which the temperature calibrates."""

    def shares(temperature: float) -> list[float]:
        table: list[float] = probabilities_of(logits[None], temperature)[0].round(DIGITS).tolist()
        return table

    plain = shares(1.0)
    best = plain.index(max(plain))  # as `bert-lora predict` chooses; no temperature changes it
    table = shares(scorer.temperature) if calibrated else plain
    return Prediction(
        label=scorer.labels[best],
        probability=table[best],
        probabilities=dict(zip(scorer.labels, table, strict=True)) if every_class else None,
    )
