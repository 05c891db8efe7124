"""A bag-of-words baseline: TF-IDF and logistic regression, without any foundation model."""

import re

import numpy as np
from sklearn.feature_extraction.text import CountVectorizer, TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import Pipeline, make_pipeline
from tqdm.auto import tqdm

from stages.core.errors import printable
from stages.core.params import TfidfParams
from stages.rows.prepared import Split

WORD = r"(?u)\b\w+\b"  # single characters too: in some languages they are words
CHARACTER = r"(?u)\S"  # where no text holds a word: emoji, punctuation
GIVEN_AWAY = 0.99


def terms_of(texts: list[str]) -> str:
    """Return the pattern of a term: a word, or any character where no text holds a word."""
    return WORD if any(re.search(WORD, text) for text in texts) else CHARACTER


def giveaways(rows: Split, labels: list[str]) -> list[str]:
    """Return a line for each word that only one class has, in nearly all of its rows.

    Such a word is more often a leak of the label into the text than something to learn. A word
    counts if its precision and its recall for the class both exceed GIVEN_AWAY.
    """
    words = CountVectorizer(binary=True, token_pattern=terms_of(rows.texts))
    table = words.fit_transform(rows.texts)  # (rows, words), 1 where a row has the word
    everywhere = np.asarray(table.sum(axis=0)).ravel()
    lines = []
    for number, label in enumerate(labels):
        own = np.asarray(rows.targets) == number
        inside = np.asarray(table[own].sum(axis=0)).ravel()
        telling = (inside > GIVEN_AWAY * everywhere) & (inside > GIVEN_AWAY * own.sum())
        right = (inside + (~own).sum() - (everywhere - inside)) / len(own)
        lines += [
            f"the word {printable(words.get_feature_names_out()[word])} alone separates "
            f"{printable(label)} from the rest in {100 * right[word]:.1f} % of the training rows: "
            "check that the text does not contain its label"
            for word in np.flatnonzero(telling)
        ]
    return lines


def fit_tfidf(
    train: Split, validation: Split, params: TfidfParams
) -> tuple[Pipeline, dict[str, float]]:
    """Fit TF-IDF with logistic regression for each setting; keep the best on validation.

    Terms are words and word sequences (single characters where no text holds a word), their counts
    taken by the logarithm; rows have length 1. Of equal settings the first is kept.

    Returns:
        The fitted pipeline, and its `ngrams` and `c`.
    """
    tried = []
    pattern = terms_of(train.texts)
    settings = [(ngrams, c) for ngrams in params.ngrams for c in params.c]
    for ngrams, c in tqdm(settings, desc="tf-idf", unit="fit", leave=False, disable=None):
        words = TfidfVectorizer(ngram_range=(1, ngrams), sublinear_tf=True, token_pattern=pattern)
        baseline = make_pipeline(words, LogisticRegression(C=c, max_iter=1000))
        baseline.fit(train.texts, train.targets)
        right = float(baseline.score(validation.texts, validation.targets))
        tried.append((right, baseline, {"ngrams": ngrams, "c": c}))
    _, best, chosen = max(tried, key=lambda entry: entry[0])
    return best, chosen
