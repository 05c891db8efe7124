"""The headline scores as a metric of the `evaluate` library: a module of our own, no download."""

from typing import Any

import datasets
import evaluate
import numpy as np

from stages.scoring.scores import headline_scores


class ClassificationScores(evaluate.Metric):  # type: ignore[misc]  # evaluate has no types
    """Accuracy, macro F1 and log loss of class probabilities."""

    def _info(self) -> evaluate.MetricInfo:
        return evaluate.MetricInfo(
            description="Accuracy, macro-averaged F1, and mean negative log-likelihood (nats).",
            citation="",
            inputs_description="predictions: probabilities by class; references: label numbers",
            features=datasets.Features(
                {
                    "predictions": datasets.Sequence(datasets.Value("float64")),
                    "references": datasets.Value("int64"),
                }
            ),
        )

    def _compute(self, predictions: list[list[float]], references: list[int]) -> dict[str, float]:
        return headline_scores(np.array(predictions), references)


def score(probabilities: np.ndarray[Any, Any], targets: list[int]) -> dict[str, float]:
    """Return accuracy, f1_macro and log_loss of the probabilities (rows, classes)."""
    metric = ClassificationScores(keep_in_memory=True)
    scores: dict[str, float] = metric.compute(
        predictions=probabilities.tolist(), references=targets
    )
    return scores
