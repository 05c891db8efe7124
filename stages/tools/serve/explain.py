"""Which words carried an answer: each is left out in turn, and the log-odds of the answer compared.

Log-odds, log(p / (1 - p)) of the answer's class, do not saturate as a probability does; with two
classes they are the difference of the logits. It works for whatever returns logits.
"""

import re
from typing import Any

import numpy as np
from scipy.special import logsumexp

METHOD = "leaving out one word at a time"
MOST_WORDS = 300
# A word, or one character of a script that is written without spaces.
UNSPACED = "\u0e00-\u0e7f\u3040-\u30ff\u3400-\u9fff\U00020000-\U0003ffff"
WORD = re.compile(rf"[{UNSPACED}]|[^\s{UNSPACED}]+")
Logits = np.ndarray[Any, np.dtype[np.float32]]


def words_of(text: str) -> list[tuple[int, int]]:
    """Return start and end of each word, in characters."""
    return [match.span() for match in WORD.finditer(text)]


def without_each(text: str, words: list[tuple[int, int]]) -> list[str]:
    """Return the text without the first word, without the second, and so on."""
    return [text[:start] + text[end:] for start, end in words]


def compare(logits: Logits) -> tuple[int, list[float]]:
    """Return the number of the likeliest class, and what each word adds to its log-odds.

    Args:
        logits: of the text, then of the text without each word, shape (1 + words, classes).
    """
    target = int(logits[0].argmax())
    others = np.delete(logits.astype(np.float64), target, axis=1)
    odds = logits[:, target] - logsumexp(others, axis=1)
    return target, (odds[0] - odds[1:]).tolist()
