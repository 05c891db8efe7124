"""What answers for a trained model, whatever runs it: adapter, merged folder or ONNX file."""

from __future__ import annotations

from typing import Any, Protocol

import numpy as np

Array = np.ndarray[Any, np.dtype[np.float32]]


class Scorer(Protocol):
    """A loaded model that scores texts. It knows no file of the pipeline and imports no torch.

    Attributes:
        name: what runs it, for people: adapter, merged, onnx, onnx int8.
        labels: class names in the order of the logits.
        max_length: tokens that are read of a text, special tokens included; the rest is cut off.
        temperature: what logits are divided by before the softmax, so that the probabilities are
            calibrated on validation (Guo et al. 2017, arXiv 1706.04599); 1.0 where none was fitted.
        sha256: of the weights that answer.
    """

    name: str
    labels: list[str]
    max_length: int
    temperature: float
    sha256: str

    def logits(self, texts: list[str]) -> Array:
        """Return the logits, shape (texts, classes), in the order of the texts."""
        ...

    def lengths(self, texts: list[str]) -> list[int]:
        """Return how many tokens each text has, before it is cut off."""
        ...
