"""A loaded model that answers, whatever runs it. A stand-in until its own module is merged."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from stages.core import paths
from stages.core.artefacts import read_object, sha256_of
from stages.core.errors import NumericsError
from stages.core.params import ComputeParams
from stages.serving.texts import fault_of as fault_of  # as the module to come has it

AUTO = ComputeParams(device="auto", precision="auto", threads="auto")
Logits = np.ndarray[Any, np.dtype[np.float32]]


@dataclass(frozen=True)
class Predictor:
    """A loaded model."""

    description: str
    labels: list[str]
    max_length: int
    temperature: float
    sha256: str
    files: dict[str, str]
    facts: dict[str, str]
    score: Callable[[list[str]], Logits]
    count: Callable[[list[str]], list[int]]

    def logits(self, texts: Sequence[str]) -> Logits:
        """Return the logits, shape (texts, classes)."""
        logits = self.score(list(texts))
        if not np.isfinite(logits).all():
            what = f"{self.description}: a logit is not a finite number"
            raise NumericsError(what, "train with a lower train.learning_rate")
        return logits

    def lengths(self, texts: Sequence[str]) -> list[int]:
        """Return how many tokens each text has before it is cut off."""
        return self.count(list(texts))


def open_predictor(
    folder: Path | None = None,
    compute: ComputeParams | None = None,
    threads: int | None = None,
    *,
    base: bool = False,
) -> Predictor:
    """Return the adapter or the base of models/, or what `bert-lora export` wrote."""
    from stages.model.saved import read_manifest
    from stages.scoring.logits import predict_logits
    from stages.serving.exported import open_scorer
    from stages.serving.predictor import Predictor as Loaded

    if folder is not None:
        scorer = open_scorer(folder, threads)
        return Predictor(
            scorer.description,
            scorer.labels,
            scorer.max_length,
            scorer.temperature,
            scorer.sha256,
            {},
            {},
            scorer.score,
            scorer.lengths,
        )
    loaded = Loaded.load(compute or AUTO, with_base=base)
    classifier = (base and loaded.base) or loaded.adapter
    metrics = paths.BASE_METRICS if base else paths.ADAPTER_METRICS
    sha = read_manifest(paths.ADAPTER)["files"][paths.ADAPTER_WEIGHTS.name]
    value = read_object(metrics, "temperature")["temperature"] if metrics.exists() else 1.0
    return Predictor(
        "base" if base else "adapter",
        loaded.labels,
        loaded.tokens_read,
        float(value),
        sha256_of(paths.HEAD_WEIGHTS) if base else sha,
        {},
        {},
        lambda texts: predict_logits(
            classifier, texts, loaded.max_length, loaded.device, ""
        ).numpy(),
        lambda texts: [len(ids) for ids in classifier.tokenizer(texts)["input_ids"]],
    )
