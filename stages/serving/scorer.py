"""What answers for a trained model, whatever runs it: adapter, merged folder or ONNX file."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np

Logits = np.ndarray[Any, np.dtype[np.float32]]
Probabilities = np.ndarray[Any, np.dtype[np.float64]]


class Scorer(Protocol):
    """A loaded model that scores texts. It knows no file of the pipeline and imports no torch.

    Attributes:
        description: what runs it, for people: merged, onnx, onnx int8.
        labels: class names in the order of the logits.
        max_length: tokens that are read of a text, special tokens included; the rest is cut off.
        temperature: what logits are divided by before the softmax, so that the probabilities are
            calibrated on validation (Guo et al. 2017, arXiv 1706.04599).
        sha256: of the weights that answer.
    """

    description: str
    labels: list[str]
    max_length: int
    temperature: float
    sha256: str

    def score(self, texts: Sequence[str]) -> Logits:
        """Return the logits, shape (texts, classes), in the order of the texts."""
        ...

    def lengths(self, texts: Sequence[str]) -> list[int]:
        """Return how many tokens each text has, special tokens included, before it is cut off."""
        ...


def probabilities_of(logits: Logits, temperature: float = 1.0) -> Probabilities:
    """Return the softmax of logits / temperature, shape (texts, classes), as float64."""
    scaled = logits.astype(np.float64) / temperature
    powers = np.exp(scaled - scaled.max(axis=1, keepdims=True))
    shares: Probabilities = powers / powers.sum(axis=1, keepdims=True)
    return shares
