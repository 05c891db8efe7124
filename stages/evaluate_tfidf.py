"""Fit a bag-of-words baseline and score the test rows: what no foundation model would give."""

from __future__ import annotations

from typing import TYPE_CHECKING

from stages.core import artefacts, paths
from stages.core.errors import printable
from stages.core.params import Params, TfidfParams
from stages.rows.source_changed import warn_if_source_changed
from stages.running.stage import run_stage

if TYPE_CHECKING:  # heavy libraries are imported once the params are known to be right
    from sklearn.pipeline import Pipeline

    from stages.rows.prepared import Split


WORD = r"(?u)\b\w+\b"  # single characters too: some languages write words with one
GIVEN_AWAY = 0.99


def evaluate_tfidf(params: Params) -> None:
    """Write the baseline's test scores and predictions to metrics/."""
    from stages.rows import prepared as splits
    from stages.scoring import headline, predictions

    labels = splits.read_labels()
    train = splits.read_split(paths.TRAIN, labels)
    validation = splits.read_split(paths.VALIDATION, labels)
    test = splits.read_split(paths.TEST, labels)

    for line in giveaways(train, labels):
        print(f"warning: {line}")
    baseline, chosen = fit_tfidf(train, validation, params.tfidf)
    probabilities = baseline.predict_proba(test.texts)
    scores = headline.headline_scores(probabilities, test.targets) | chosen

    predictions.write_predictions(
        paths.TFIDF_PREDICTIONS, test.ids, test.targets, labels, probabilities
    )
    artefacts.write_json(paths.TFIDF_METRICS, scores)
    print(f"tf-idf: accuracy {scores['accuracy']:.4f} on {len(test.ids)} test rows")


def giveaways(rows: Split, labels: list[str]) -> list[str]:
    """Return a line for each word that stands in one class alone, and in nearly all of its rows.

    Such a word is more often a leak of the label into the text than a thing to learn. A word counts
    if its precision and its recall for the class both exceed GIVEN_AWAY.
    """
    import numpy as np
    from sklearn.feature_extraction.text import CountVectorizer

    words = CountVectorizer(binary=True, token_pattern=WORD)
    table = words.fit_transform(rows.texts)  # (rows, words), 1 where the word stands
    everywhere = np.asarray(table.sum(axis=0)).ravel()
    lines = []
    for number, label in enumerate(labels):
        own = np.asarray(rows.targets) == number
        inside = np.asarray(table[own].sum(axis=0)).ravel()
        told = (inside > GIVEN_AWAY * everywhere) & (inside > GIVEN_AWAY * own.sum())
        right = (inside + (~own).sum() - (everywhere - inside)) / len(own)
        lines += [
            f"the word {printable(words.get_feature_names_out()[word])} alone tells "
            f"{printable(label)} from the rest in {100 * right[word]:.1f} % of the training rows: "
            "see that the text does not hold its label"
            for word in np.flatnonzero(told)
        ]
    return lines


def fit_tfidf(
    train: Split, validation: Split, params: TfidfParams
) -> tuple[Pipeline, dict[str, float]]:
    """Fit TF-IDF with logistic regression for each setting; keep what validation likes best.

    Terms are words and word sequences, their counts taken by the logarithm; rows have length 1.
    Returns the fitted pipeline, and its `ngrams` and `c`. Of equals the first setting wins.
    """
    from sklearn.feature_extraction.text import TfidfVectorizer
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from tqdm.auto import tqdm

    tried = []
    settings = [(ngrams, c) for ngrams in params.ngrams for c in params.c]
    for ngrams, c in tqdm(settings, desc="tf-idf", unit="fit", leave=False, disable=None):
        words = TfidfVectorizer(ngram_range=(1, ngrams), sublinear_tf=True, token_pattern=WORD)
        baseline = make_pipeline(words, LogisticRegression(C=c, max_iter=1000))
        baseline.fit(train.texts, train.targets)
        right = float(baseline.score(validation.texts, validation.targets))
        tried.append((right, baseline, {"ngrams": ngrams, "c": c}))
    _, best, chosen = max(tried, key=lambda one: one[0])
    return best, chosen


if __name__ == "__main__":
    run_stage(evaluate_tfidf, before=warn_if_source_changed)
