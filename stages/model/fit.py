"""How tokenizer, model and texts fit: what is cut, unknown or taken apart, in figures and words."""

import re
from collections import Counter
from collections.abc import Iterator
from typing import Any

import numpy as np

from stages.core.errors import printable
from stages.model.classifier import Classifier, encoder_of
from stages.model.tokens import encode, marks_the_start

SAMPLE = 10_000  # texts, evenly spaced: enough for a share to within a point
MANY = 0.02  # share of the words that becomes a warning
MANY_ROWS, MANY_TOKENS = 0.05, 0.005  # shares of rows and tokens that together become one
CUT = 0.1  # share of the rows that becomes one
PIECES = 1.6  # a word; English texts on an English base have 1.0 to 1.35
# Chinese and Japanese have no spaces: each of their characters counts as a word.
SINGLE = "\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff"
WORD = re.compile(rf"[{SINGLE}]|[^\W\d_{SINGLE}]+")
REMEDY = "Fix: model.source, a base of their language or a multilingual one"
STARTS = ("", "▁", "Ġ")  # how vocabularies mark the beginning of a word


def token_figures(tokenizer: Any, texts: list[str], max_length: int) -> dict[str, Any]:
    """Return how the tokenizer reads the texts, shares from 0 to 1.

    Args:
        tokenizer: of the base; its model_max_length is what the model can read.
        texts: of the training rows; at most SAMPLE of them are read.
        max_length: tokens that the params keep of each text.

    Returns:
        rows: how many texts were read. pieces_per_word: the mean over the words, 0 without any.
        unknown_rows, unknown_tokens: share of the rows that hold what the tokenizer does not know,
        and of all tokens. unknown_signs: at most five that it does not know, the commonest first;
        words are left out, since they could tell what a text says. lengths: for max_length, its
        double and its fourfold, as far as the model can read, a mapping of max_length, kept (share
        of the texts' tokens), rows_cut (share of the rows), cost (tokens to compute, as a multiple
        of those of the first).
    """
    sample = texts[:: max(1, -(-len(texts) // SAMPLE))]
    rows = tokenizer(sample, add_special_tokens=False, verbose=False)["input_ids"] if sample else []
    lengths = np.array([len(row) for row in rows], dtype=np.int64)
    unknown = tokenizer.unk_token_id
    strange = [text for text, row in zip(sample, rows, strict=True) if unknown in row]
    signs = Counter(sign for text in strange for sign in text if not sign.isalnum())
    known = _tokens(tokenizer, list(signs))
    lost = Counter({sign: signs[sign] for sign in signs if tokenizer.unk_token in known[sign]})
    words = Counter(word for text in sample for word in WORD.findall(text))
    pieces = sum(len(made) * words[word] for word, made in _tokens(tokenizer, list(words)).items())
    special = tokenizer.num_special_tokens_to_add()
    return {
        "rows": len(sample),
        "pieces_per_word": pieces / max(1, words.total()),
        "unknown_rows": len(strange) / max(1, len(sample)),
        "unknown_tokens": sum(row.count(unknown) for row in rows) / max(1, int(lengths.sum())),
        "unknown_signs": [sign for sign, _ in lost.most_common(5)],
        "lengths": list(_lengths(lengths, special, max_length, tokenizer.model_max_length)),
    }


def _lengths(
    lengths: Any, special: int, max_length: int, limit: int
) -> Iterator[dict[str, float | int]]:
    longest = [min(max_length * times, limit) for times in (1, 2, 4)]
    first = None
    for tokens in sorted(set(longest)):
        read = np.minimum(lengths, tokens - special)
        cost = int((read + special).sum())
        first = first or max(1, cost)
        yield {
            "max_length": tokens,
            "kept": float(read.sum() / max(1, lengths.sum())) if lengths.sum() else 1.0,
            "rows_cut": float((lengths > read).mean()) if len(lengths) else 0.0,
            "cost": cost / first,
        }


def read_alike(tokenizer: Any, train: list[str], test: list[str], max_length: int) -> list[int]:
    """Return the test rows whose token ids are those of a training row.

    Such texts differ only in what the tokenizer drops, does not know or cuts off: the model has
    seen them in training, though they are not the same texts.
    """
    known = {ids.tobytes() for ids in encode(tokenizer, train, max_length)}
    found = encode(tokenizer, test, max_length)
    return [row for row, ids in enumerate(found) if ids.tobytes() in known]


def fit_notes(figures: dict[str, Any]) -> list[str]:
    """Return a line on texts that are cut, with what a longer data.max_length would keep and cost.

    Args:
        figures: as `token_figures` returns them.
    """
    first, *longer = figures["lengths"]
    if not first["rows_cut"]:
        return []
    more = [
        f"{other['max_length']} keep {100 * other['kept']:.0f} % at {other['cost']:.1f} times the "
        "tokens"
        for other in longer
    ] or ["the model reads no more"]
    many = first["rows_cut"] > CUT
    return [
        f"{'warning' if many else 'note'}: {first['max_length']} tokens keep "
        f"{100 * first['kept']:.0f} % of the text and cut {100 * first['rows_cut']:.1f} % of the "
        f"rows; {', '.join(more)}{'. Fix: data.max_length' if many and longer else ''}"
    ]


def fit_warnings(
    classifier: Classifier, texts: list[str], max_length: int, figures: dict[str, Any]
) -> list[str]:
    """Return one line for each way in which tokenizer, model and texts do not fit.

    Args:
        classifier: as `load.load_base` returned it.
        texts: of the training rows.
        max_length: tokens that the params keep of each text.
        figures: as `token_figures` returns them.
    """
    tokenizer = classifier.tokenizer
    lines = []
    if max_length > tokenizer.model_max_length:
        lines.append(
            f"data.max_length is {max_length}, the model reads {tokenizer.model_max_length} tokens "
            "at most: longer texts are cut there"
        )
    if not marks_the_start(tokenizer):
        lines.append(
            "the tokenizer puts no token such as [CLS] in front of a text, as models of this kind "
            "are trained to expect"
        )
    # A model that takes another token for padding counts its positions from elsewhere.
    embeddings = getattr(encoder_of(classifier.model), "embeddings", None)
    of_model = getattr(getattr(embeddings, "position_embeddings", None), "padding_idx", None)
    if of_model is not None and of_model != tokenizer.pad_token_id:
        lines.append(
            f"the tokenizer pads with token {tokenizer.pad_token_id}, the model counts positions "
            f"without token {of_model}: pad_token_id in config.json and the tokenizer's differ"
        )
    return lines + (
        list(_lost_capitals(tokenizer, texts)) or list(_about_pieces(tokenizer, figures))
    )


def _about_pieces(tokenizer: Any, figures: dict[str, Any]) -> Iterator[str]:
    if figures["pieces_per_word"] >= PIECES:
        yield (
            f"the tokenizer makes {figures['pieces_per_word']:.1f} pieces of a word of the training"
            " texts, where texts in the base's own language have 1.0 to 1.4: is it made for their "
            f"language? {REMEDY}"
        )
    if figures["unknown_rows"] >= MANY_ROWS and figures["unknown_tokens"] >= MANY_TOKENS:
        signs = ", ".join(printable(sign) for sign in figures["unknown_signs"])
        example = f", most often {signs}" if signs else ""
        yield (
            f"{figures['unknown_rows']:.0%} of the training rows hold what the tokenizer reads as "
            f"{tokenizer.unk_token}{example}: the model cannot tell these apart. {REMEDY}, or one "
            "whose tokenizer reads bytes (RoBERTa, ModernBERT); where an uncased base has a "
            'tokenizer that keeps capitals, "do_lower_case": true in its tokenizer_config.json'
        )


def _lost_capitals(tokenizer: Any, texts: list[str]) -> Iterator[str]:
    """Yield a line if many words lose capitals with which the vocabulary has them."""
    sample = texts[:: max(1, -(-len(texts) // SAMPLE))]
    counted = Counter(word for text in sample for word in WORD.findall(text))
    capital = [word for word in counted if word != word.lower()]
    read, lower = (_tokens(tokenizer, words) for words in (capital, [w.lower() for w in capital]))
    vocabulary = tokenizer.get_vocab()
    lost = [
        word
        for word in capital
        if any(f"{start}{word}" in vocabulary for start in STARTS)
        and read[word] == lower[word.lower()]
    ]
    share = sum(counted[word] for word in lost) / max(1, counted.total())
    if share >= MANY:
        yield (
            f"the tokenizer lower-cases the texts, though the vocabulary has words with capitals, "
            f"such as {printable(lost[0])}: {share:.0%} of the words of the training texts are "
            'read as others. If the model is a cased one, put "do_lower_case": false into its '
            "tokenizer_config.json"
        )


def _tokens(tokenizer: Any, words: list[str]) -> dict[str, list[str]]:
    """Return the tokens of each word as it stands inside a text, without special tokens."""
    if not words:
        return {}
    ids = tokenizer([f" {word}" for word in words], add_special_tokens=False)["input_ids"]
    made = [tokenizer.convert_ids_to_tokens(row) for row in ids]
    return dict(zip(words, made, strict=True))
