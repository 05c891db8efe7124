"""Warn where the tokenizer does not fit its vocabulary, its model or the texts."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from typing import Any

from stages.core.errors import printable
from stages.model.classifier import Classifier, encoder_of
from stages.model.tokenizer import marks_the_start

PROBED = 1000  # texts, and entries of the vocabulary
UNKNOWN_WORDS = 0.02  # share of the texts' words that becomes a warning
CAPITALS = 0.05  # share of the vocabulary's words that makes it a cased one
LOST = 0.9  # share of those that the tokenizer never makes
WORD = re.compile(r"[^\W\d_]+")
STARTS = ("▁", "Ġ")  # how vocabularies mark the beginning of a word


def fit_warnings(classifier: Classifier, texts: list[str], max_length: int) -> list[str]:
    """Return one line for each way in which tokenizer, model and texts do not fit.

    Args:
        classifier: as `base.load_base` returned it.
        texts: of the training rows.
        max_length: tokens that the params keep of each text.
    """
    tokenizer = classifier.tokenizer
    found = [
        *_about_length(tokenizer, max_length),
        *_about_marks(classifier),
        *_about_padding(classifier),
    ]
    return [*found, *(_about_capitals(tokenizer) or _about_unknown_words(tokenizer, texts))]


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


def _about_capitals(tokenizer: Any) -> list[str]:
    """Return a line if the vocabulary has words with capitals that the tokenizer never makes."""
    special = set(tokenizer.all_special_tokens)
    words = {}
    for token in sorted(set(tokenizer.get_vocab()) - special):
        word = token[1:] if token.startswith(STARTS) else token
        if word.isascii() and word.isalpha():
            words[token] = word
    capitals = {token: word for token, word in words.items() if word != word.lower()}
    if len(capitals) < CAPITALS * len(words) or not capitals:
        return []
    probes = dict(list(capitals.items())[:: max(1, len(capitals) // PROBED)])
    read = _tokens(tokenizer, list(probes.values()))
    lost = [token for token, made in zip(probes, read, strict=True) if token not in made]
    lower = [
        word for word, made in zip(probes.values(), read, strict=True) if _is_lower(tokenizer, made)
    ]
    if min(len(lost), len(lower)) < LOST * len(probes):
        return []
    unknown = sum(tokenizer.unk_token in made for made in read) / len(probes)
    return [
        f"the tokenizer lower-cases every text, and {len(capitals)} of the vocabulary's "
        f"{len(words)} words have capitals, for example {printable(capitals[lost[0]])}: none of "
        f"them is ever read ({unknown:.0%} become {tokenizer.unk_token}). If the model is a cased "
        'one, put "do_lower_case": false into its tokenizer_config.json'
    ]


def _is_lower(tokenizer: Any, tokens: list[str]) -> bool:
    return all(token == token.lower() or token == tokenizer.unk_token for token in tokens)


def _about_unknown_words(tokenizer: Any, texts: list[str]) -> list[str]:
    """Return a line if many words of the texts are unknown, with the cause if it is their case."""
    if tokenizer.unk_token is None:
        return []
    sample = texts[:: max(1, len(texts) // PROBED)]
    counted = Counter(word for text in sample for word in WORD.findall(text))
    total, words = counted.total(), list(counted)
    if not total:
        return []

    def unknown(forms: list[str]) -> int:
        """Return how many words of the texts have an unknown token, written in this way."""
        read = _tokens(tokenizer, forms)
        return sum(
            counted[word]
            for word, made in zip(words, read, strict=True)
            if tokenizer.unk_token in made
        )

    as_written = unknown(words)
    if as_written < UNKNOWN_WORDS * total:
        return []
    share = f"{as_written / total:.0%} of the words of the training texts"
    if unknown([word.lower() for word in words]) < as_written / 2:
        return [
            f"{share} are {tokenizer.unk_token} to the tokenizer for their capitals alone: if the "
            'model is an uncased one, put "do_lower_case": true into its tokenizer_config.json'
        ]
    return [f"{share} are {tokenizer.unk_token} to the tokenizer: is it made for their language?"]


def _tokens(tokenizer: Any, texts: list[str]) -> list[list[str]]:
    """Return the tokens of each text, without special tokens."""
    if not texts:
        return []
    ids = tokenizer(texts, add_special_tokens=False)["input_ids"]
    return [tokenizer.convert_ids_to_tokens(row) for row in ids]
