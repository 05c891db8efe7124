"""The trained classifier, loaded once to answer many times. It needs the folder models/ alone."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from stages.core import paths
from stages.core.artefacts import require
from stages.core.params import ComputeParams
from stages.model.base import load_base
from stages.model.classifier import Classifier
from stages.model.device import Device, set_up
from stages.model.fast.layer import speed_up
from stages.model.head import freeze_encoder, load_head
from stages.model.saved import load_adapter, read_manifest
from stages.scoring.logits import predict_logits, probabilities_of

Array = np.ndarray[Any, np.dtype[np.float64]]
SEED = 0  # of the fresh head and of dropout, neither of which reaches an answer


@dataclass(frozen=True)
class Predictor:
    """A classifier that is ready to answer.

    Attributes:
        adapter: the trained classifier.
        base: the classifier that it was trained from, or None.
        labels: class names in the order of the probabilities.
        max_length: tokens that are read of a text; the rest of it is cut off.
        device: what it runs on.
    """

    adapter: Classifier
    base: Classifier | None
    labels: list[str]
    max_length: int
    device: Device

    @classmethod
    def load(cls, compute: ComputeParams, with_base: bool = False) -> Predictor:
        """Return the predictor of models/ in the working folder.

        Labels and maximal length are those of the adapter's manifest.

        Args:
            compute: device, precision and threads.
            with_base: whether to load the base too.

        Raises:
            HostError: if a folder is missing.
            ModelError: if a file is damaged, or base and adapter do not belong together.
        """
        for folder in (paths.BASE_MODEL, paths.ADAPTER, *([paths.HEAD] if with_base else [])):
            require(folder)
        device = set_up(compute)
        manifest = read_manifest(paths.ADAPTER)
        labels = manifest["labels"]

        def fresh() -> Classifier:
            return load_base(paths.BASE_MODEL, labels, SEED, device, manifest["pooling"])

        adapter = load_adapter(fresh(), paths.ADAPTER, paths.BASE_MODEL)
        speed_up(adapter, device, SEED)
        base = None
        if with_base:
            base = fresh()
            load_head(base, paths.HEAD)
            freeze_encoder(base)
            speed_up(base, device, SEED)
        return cls(adapter, base, labels, manifest["max_length"], device)

    def probabilities(self, texts: list[str]) -> Array:
        """Return the adapter's probabilities, shape (texts, classes)."""
        return self._probabilities(self.adapter, texts, "adapter")

    def base_probabilities(self, texts: list[str]) -> Array:
        """Return the base's probabilities, shape (texts, classes).

        Raises:
            ValueError: if the base was not loaded.
        """
        if self.base is None:
            raise ValueError("loaded without the base")
        return self._probabilities(self.base, texts, "base")

    @property
    def tokens_read(self) -> int:
        """How many tokens of a text are read at most."""
        return min(self.max_length, int(self.adapter.tokenizer.model_max_length))

    def count_cut(self, texts: list[str]) -> int:
        """Return how many texts have more tokens than are read."""
        tokenizer, limit = self.adapter.tokenizer, self.tokens_read
        one_more = tokenizer(texts, truncation=True, max_length=limit + 1)["input_ids"]
        return sum(len(ids) > limit for ids in one_more)

    def _probabilities(self, classifier: Classifier, texts: list[str], what: str) -> Array:
        logits = predict_logits(classifier, texts, self.max_length, self.device, what)
        return probabilities_of(logits)
