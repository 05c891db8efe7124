"""Warn where the tokenizer does not fit its vocabulary, its model or the texts."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from typing import Any

from stages.core.errors import printable
from stages.model.classifier import Classifier, encoder_of
from stages.model.tokenizer import marks_the_start

PROBED = 1000  # texts
MANY = 0.02  # share of the texts' words that becomes a warning
WORD = re.compile(r"[^\W\d_]+")
STARTS = ("", "▁", "Ġ")  # how vocabularies mark the beginning of a word


def fit_warnings(classifier: Classifier, texts: list[str], max_length: int) -> list[str]:
    """Return one line for each way in which tokenizer, model and texts do not fit.

    Args:
        classifier: as `base.load_base` returned it.
        texts: of the training rows.
        max_length: tokens that the params keep of each text.
    """
    tokenizer = classifier.tokenizer
    return [
        *_about_length(tokenizer, max_length),
        *_about_marks(classifier),
        *_about_padding(classifier),
        *_about_words(tokenizer, texts),
    ]


def _about_length(tokenizer: Any, max_length: int) -> Iterator[str]:
    if max_length > tokenizer.model_max_length:
        yield (
            f"data.max_length is {max_length}, the model reads {tokenizer.model_max_length} tokens "
            "at most: longer texts are cut there"
        )


def _about_marks(classifier: Classifier) -> Iterator[str]:
    if not marks_the_start(classifier.tokenizer):
        yield (
            "the tokenizer puts no token such as [CLS] in front of a text, as models of this kind "
            "are trained to expect"
        )


def _about_padding(classifier: Classifier) -> Iterator[str]:
    """Yield a line if the model takes another token for padding, which shifts its positions."""
    encoder = encoder_of(classifier.model)
    positions = getattr(getattr(encoder, "embeddings", None), "position_embeddings", None)
    of_model = getattr(positions, "padding_idx", None)
    of_tokenizer = classifier.tokenizer.pad_token_id
    if of_model is not None and of_model != of_tokenizer:
        yield (
            f"the tokenizer pads with token {of_tokenizer}, the model counts positions without "
            f"token {of_model}: pad_token_id in config.json and the tokenizer's differ"
        )


def _about_words(tokenizer: Any, texts: list[str]) -> Iterator[str]:
    """Yield a line with the cause if many words of the texts lose their capitals or are unknown."""
    sample = texts[:: max(1, len(texts) // PROBED)]
    counted = Counter(word for text in sample for word in WORD.findall(text))
    total, words = counted.total(), list(counted)
    if not total:
        return
    read = dict(zip(words, _tokens(tokenizer, words), strict=True))
    unknown = [word for word in words if tokenizer.unk_token in read[word]]
    vocabulary = tokenizer.get_vocab()
    lost = [  # the vocabulary has them as they are written, and the tokenizer does not make them
        word
        for word in words
        if word != word.lower()
        and any(f"{start}{word}" in vocabulary for start in STARTS)
        and read[word] == _tokens(tokenizer, [word.lower()])[0]
    ]

    def share(of: list[str]) -> float:
        return sum(counted[word] for word in of) / total

    if share(lost) >= MANY:
        yield (
            f"the tokenizer lower-cases the texts, though the vocabulary has words with capitals, "
            f"such as {printable(lost[0])}: {share(lost):.0%} of the words of the training texts "
            f"are read as others ({share([w for w in lost if w in unknown]):.0%} as "
            f'{tokenizer.unk_token}). If the model is a cased one, put "do_lower_case": false into '
            "its tokenizer_config.json"
        )
    elif tokenizer.unk_token is not None and share(unknown) >= MANY:
        capitals = [word for word in unknown if word != word.lower()]
        lower = _tokens(tokenizer, [word.lower() for word in capitals])
        mended = [
            w for w, made in zip(capitals, lower, strict=True) if tokenizer.unk_token not in made
        ]
        what = f"{share(unknown):.0%} of the words of the training texts are {tokenizer.unk_token}"
        if share(mended) > share(unknown) / 2:
            yield (
                f"{what} to the tokenizer, most of them for their capitals alone: if the model is "
                'an uncased one, put "do_lower_case": true into its tokenizer_config.json'
            )
        else:
            yield f"{what} to the tokenizer: is it made for their language?"


def _tokens(tokenizer: Any, texts: list[str]) -> list[list[str]]:
    """Return the tokens of each text, without special tokens."""
    if not texts:
        return []
    ids = tokenizer(texts, add_special_tokens=False)["input_ids"]
    return [tokenizer.convert_ids_to_tokens(row) for row in ids]
