"""Score a classifier on rows: one path for base and adapter, so that the comparison is fair."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import datasets
import evaluate
import numpy as np
import pandas as pd
import torch
from sklearn.metrics import accuracy_score, f1_score, log_loss
from torch import Tensor
from tqdm.auto import tqdm

from stages.shared.artefacts import replacing
from stages.shared.compute import Compute
from stages.shared.dataset import Split, batches, encode
from stages.shared.errors import ModelError, NumericsError
from stages.shared.model import Classifier, features, head_logits

ROWS_PER_BATCH = 64


class ClassificationScores(evaluate.Metric):  # type: ignore[misc]  # evaluate has no types
    """Accuracy, macro F1 and log loss, as an `evaluate` metric that needs no download."""

    def _info(self) -> evaluate.MetricInfo:
        return evaluate.MetricInfo(
            description="Accuracy, macro-averaged F1, and mean negative log-likelihood (nats).",
            citation="",
            inputs_description="predictions: label numbers; references: label numbers",
            features=datasets.Features(
                {"predictions": datasets.Value("int64"), "references": datasets.Value("int64")}
            ),
        )

    def _compute(
        self,
        predictions: list[int],
        references: list[int],
        probabilities: np.ndarray[Any, Any],
    ) -> dict[str, float]:
        classes = range(probabilities.shape[1])
        return {
            "accuracy": float(accuracy_score(references, predictions)),
            "f1_macro": float(
                f1_score(references, predictions, labels=classes, average="macro", zero_division=0)
            ),
            "log_loss": float(log_loss(references, probabilities, labels=classes)),
        }


def cached_features(
    classifier: Classifier, texts: list[str], max_length: int, compute: Compute, what: str
) -> tuple[Tensor, Tensor | None]:
    """Run the body over all texts: first-token states (rows, 1, hidden) and pooled or None.

    The body computes in the chosen precision; what comes back is float32 on the CPU.
    """
    model = classifier.model.to(compute.device).eval()
    encoded = encode(classifier.tokenizer, texts, max_length)
    first: list[Tensor] = [torch.empty(0)] * len(texts)
    pooled: list[Tensor] = [torch.empty(0)] * len(texts)
    has_pooled = True
    steps = -(-len(texts) // ROWS_PER_BATCH)
    with torch.no_grad(), compute.autocast():
        pad = classifier.tokenizer.pad_token_id
        todo = batches(encoded, pad, ROWS_PER_BATCH)
        for rows, batch in tqdm(
            todo, total=steps, desc=what, unit="batch", leave=False, disable=None
        ):
            on_device = {name: tensor.to(model.device) for name, tensor in batch.items()}
            states, pool = features(classifier, on_device)
            has_pooled = pool is not None
            for place, row in enumerate(rows):
                first[row] = states[place].cpu()
                if pool is not None:
                    pooled[row] = pool[place].cpu()
    return torch.stack(first), torch.stack(pooled) if has_pooled else None


def predict_logits(
    classifier: Classifier, texts: list[str], max_length: int, compute: Compute, what: str
) -> Tensor:
    """Return the logits (rows, classes) as float32; the head always computes in float32.

    Raises:
        NumericsError: if one of them is not finite.
    """
    first, pooled = cached_features(classifier, texts, max_length, compute, what)
    device = classifier.model.device
    with torch.no_grad():
        logits = head_logits(
            classifier, first.to(device), None if pooled is None else pooled.to(device)
        ).cpu()
    if not bool(torch.isfinite(logits).all()):
        raise NumericsError(
            f"{what}: a logit is not a finite number",
            "train with a lower train.learning_rate, or set compute.precision to fp32",
        )
    return logits


def probabilities_of(logits: Tensor) -> np.ndarray[Any, Any]:
    """Return softmax probabilities (rows, classes) as float64."""
    return np.asarray(torch.softmax(logits.double(), dim=1).numpy())


def score(split: Split, probabilities: np.ndarray[Any, Any]) -> dict[str, float]:
    """Return accuracy, f1_macro and log_loss of the probabilities (rows, classes)."""
    metric = ClassificationScores(keep_in_memory=True)
    scores: dict[str, float] = metric.compute(
        predictions=probabilities.argmax(axis=1).tolist(),
        references=split.targets,
        probabilities=probabilities,
    )
    return scores


def majority_accuracy(train: Split, test: Split) -> float:
    """Return the accuracy on test of always saying the most frequent class of train."""
    majority = np.bincount(train.targets).argmax()
    return float(np.mean(np.array(test.targets) == majority))


def write_predictions(
    path: Path, split: Split, labels: list[str], probabilities: np.ndarray[Any, Any]
) -> None:
    """Write one line a row: id, true label, predicted label, one probability per class.

    Probabilities have 9 significant digits, which tell any two float32 values apart.

    Raises:
        ModelError: if the number of classes is not that of the label list.
    """
    if probabilities.shape != (len(split.ids), len(labels)):
        raise ModelError(
            f"{path}: {probabilities.shape} probabilities for {len(split.ids)} rows and "
            f"{len(labels)} labels",
            "make base and adapter again: dvc repro -f evaluate_base",
        )
    frame = pd.DataFrame(
        {
            "id": split.ids,
            "label": [labels[target] for target in split.targets],
            "predicted": [labels[number] for number in probabilities.argmax(axis=1)],
            **{f"p_{label}": probabilities[:, column] for column, label in enumerate(labels)},
        }
    )
    with replacing(path) as temporary:
        frame.to_csv(temporary, index=False, float_format="%.9g", lineterminator="\n")
