"""Score a classifier on rows: one path for base and adapter, so that the comparison is fair."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor
from tqdm.auto import tqdm

from stages.core.errors import NumericsError
from stages.model.classifier import Classifier, features, head_logits
from stages.model.device import Device
from stages.model.tokens import batches, encode, padded


def cached_features(
    classifier: Classifier, texts: list[str], max_length: int, device: Device, what: str
) -> tuple[Tensor, Tensor | None]:
    """Run the encoder over all texts: first-token states (rows, 1, hidden) and pooled or None.

    The encoder computes in the chosen precision; the result is float32 on the CPU. `what` is the
    title of a progress bar on a terminal; without a title there is none.
    """
    model = classifier.model.to(device.torch_device).eval()
    encoded = encode(classifier.tokenizer, texts, max_length)
    todo = batches(encoded.lengths, device.batch_tokens)
    outputs: list[tuple[Tensor, Tensor | None]] = []
    with torch.inference_mode(), device.autocast():
        quiet = None if what else True  # None: quiet unless standard error is a terminal
        for rows in tqdm(todo, desc=what, unit="batch", leave=False, disable=quiet):
            batch = padded([encoded[row] for row in rows], classifier.tokenizer.pad_token_id)
            states, pool = features(
                classifier, {name: tensor.to(model.device) for name, tensor in batch.items()}
            )
            outputs.append((states.cpu(), None if pool is None else pool.cpu()))
    order = torch.tensor([row for rows in todo for row in rows]).argsort()
    first = torch.cat([states for states, _ in outputs])[order]
    pooled = [pool for _, pool in outputs if pool is not None]
    return first, torch.cat(pooled)[order] if pooled else None


def predict_logits(
    classifier: Classifier, texts: list[str], max_length: int, device: Device, what: str
) -> Tensor:
    """Return the logits (rows, classes) as float32; the head always computes in float32.

    Raises:
        NumericsError: if one of them is not finite.
    """
    first, pooled = cached_features(classifier, texts, max_length, device, what)
    at = device.torch_device
    with torch.no_grad():
        logits = head_logits(
            classifier, first.to(at), None if pooled is None else pooled.to(at)
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
