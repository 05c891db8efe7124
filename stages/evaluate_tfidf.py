"""Fit a bag-of-words baseline and score the test rows: what no foundation model would give."""

from stages.core import artefacts, paths
from stages.core.params import Params
from stages.model.tfidf import fit_tfidf, giveaways
from stages.rows import prepared
from stages.scoring.predictions import write_predictions
from stages.scoring.scores import headline_scores


def evaluate_tfidf(params: Params) -> None:
    """Write the baseline's test scores and predictions to metrics/."""
    labels = prepared.read_labels()
    train = prepared.read_split(paths.TRAIN, labels)
    validation = prepared.read_split(paths.VALIDATION, labels)
    test = prepared.read_split(paths.TEST, labels)

    warnings = list(giveaways(train, labels))
    for line in warnings:
        print(f"warning: {line}")  # guard: label in the text
    baseline, chosen = fit_tfidf(train, validation, params.tfidf)
    probabilities = baseline.predict_proba(test.texts)
    scores = headline_scores(probabilities, test.targets) | chosen

    write_predictions(paths.TFIDF_PREDICTIONS, test.ids, test.targets, labels, probabilities)
    artefacts.write_json(paths.TFIDF_METRICS, scores | {"warnings": warnings})
    print(f"tf-idf: accuracy {scores['accuracy']:.4f} on {len(test.ids)} test rows")
