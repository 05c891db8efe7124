"""Fit a bag-of-words baseline and score the test rows: what no foundation model would give."""

from __future__ import annotations

from typing import TYPE_CHECKING

from stages.shared import artefacts, paths
from stages.shared.params import Params, TfidfParams
from stages.shared.run import run_stage

if TYPE_CHECKING:  # heavy libraries are imported once the params are known to be right
    from sklearn.pipeline import Pipeline

    from stages.shared.splits import Split


def evaluate_tfidf(params: Params) -> None:
    """Write the baseline's test scores and predictions to metrics/."""
    from stages.shared import headline, predictions, splits

    labels = splits.read_labels()
    train = splits.read_split(paths.TRAIN, labels)
    validation = splits.read_split(paths.VALIDATION, labels)
    test = splits.read_split(paths.TEST, labels)

    baseline, chosen = fit_tfidf(train, validation, params.tfidf)
    probabilities = baseline.predict_proba(test.texts)
    scores = headline.headline_scores(probabilities, test.targets) | chosen

    predictions.write_predictions(
        paths.TFIDF_PREDICTIONS, test.ids, test.targets, labels, probabilities
    )
    artefacts.write_json(paths.TFIDF_METRICS, scores)
    print(f"tf-idf: accuracy {scores['accuracy']:.4f} on {len(test.ids)} test rows")


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
        # Single characters count as words too: some languages write words with one.
        words = TfidfVectorizer(
            ngram_range=(1, ngrams),
            sublinear_tf=True,
            token_pattern=r"(?u)\b\w+\b",  # noqa: S106  # no secret
        )
        baseline = make_pipeline(words, LogisticRegression(C=c, max_iter=1000))
        baseline.fit(train.texts, train.targets)
        right = float(baseline.score(validation.texts, validation.targets))
        tried.append((right, baseline, {"ngrams": ngrams, "c": c}))
    _, best, chosen = max(tried, key=lambda one: one[0])
    return best, chosen


if __name__ == "__main__":
    run_stage(evaluate_tfidf)
