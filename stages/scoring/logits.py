"""Score a classifier on rows: one path for base and adapter, so that the comparison is fair.

Several processes share the batches; what they computed is put together in the rows' order.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from scipy.optimize import minimize_scalar
from torch import Tensor
from tqdm.auto import tqdm

from stages.core.errors import NumericsError
from stages.model import head
from stages.model.classifier import Classifier, features, head_logits
from stages.model.device import Device
from stages.model.tokens import batches, encode, padded
from stages.running.processes import gathered, share
from stages.scoring.scores import TINY, log_loss, with_temperature

Array = np.ndarray[Any, np.dtype[np.float64]]
BOUNDS = (-5.0, 5.0)  # of the temperature's natural logarithm
PRIOR_ROWS = 20


def fit_temperature(probabilities: Array, targets: list[int]) -> float:
    """Return the temperature with the least log loss on these rows and PRIOR_ROWS of the prior.

    Args:
        probabilities: shape (rows, classes), of rows that were not trained on.
        targets: true label numbers.
    """
    weight = PRIOR_ROWS / len(targets)

    def loss(log_temperature: float) -> float:
        scaled = with_temperature(probabilities, float(np.exp(log_temperature)))
        expected = -(probabilities * np.log(np.maximum(scaled, TINY))).sum(axis=1).mean()
        return log_loss(scaled, targets) + weight * float(expected)

    best = minimize_scalar(loss, bounds=BOUNDS, method="bounded", options={"xatol": 1e-6})
    return float(np.exp(best.x))


def fit_probe(
    base: Classifier, train: head.Rows, validation: head.Rows, penalties: list[float]
) -> tuple[float, float, dict[str, Tensor]]:
    """Fit the head of the base in place, and divide its logits by their temperature.

    Args:
        base: on the CPU, with the encoder frozen and a fresh head.
        train: features as `cached_features` returns them, and label numbers.
        validation: the same of the validation rows.
        penalties: the L2 penalties to try.

    Returns:
        The penalty that validation chose, the temperature, and another state of the head, from
        which a training may start: see `head.mean_start`.
    """
    start = head.mean_start(base, train)
    penalty = head.fit_head(base, train, validation, penalties)
    logits = head_logits(base, *validation[0]).detach()
    temperature = fit_temperature(probabilities_of(logits), validation[1])
    head.divide_logits(base, head.last_layer(base), temperature)
    return penalty, temperature, start


Rows = list[int]


def cached_features(
    classifier: Classifier, texts: list[str], max_length: int, device: Device, what: str
) -> tuple[Tensor, Tensor | None]:
    """Run the encoder over all texts: first-token states (rows, 1, hidden) and pooled or None.

    The encoder computes in the chosen precision; the result is float32 on the CPU. `what` is the
    title of a progress bar on a terminal; without a title there is none.
    """
    rows, first, pooled = _own_features(classifier, texts, max_length, device, what)
    parts = gathered((rows, first, pooled))
    pools = [pool for _, _, pool in parts if pool is not None]
    order = [rows for rows, _, _ in parts]
    together = _in_order(order, [states for _, states, _ in parts])
    return together, _in_order(order, pools) if pools else None


def predict_logits(
    classifier: Classifier, texts: list[str], max_length: int, device: Device, what: str
) -> Tensor:
    """Return the logits (rows, classes) as float32; the head always computes in float32.

    Every process has those of all rows.

    Raises:
        NumericsError: if one of them is not finite.
    """
    rows, first, pooled = _own_features(classifier, texts, max_length, device, what)
    first = _in_order([rows], [first])
    pooled = None if pooled is None else _in_order([rows], [pooled])
    at = device.torch_device
    with torch.no_grad():
        own = head_logits(classifier, first.to(at), None if pooled is None else pooled.to(at)).cpu()
    parts = gathered((sorted(rows), own))
    logits = _in_order([rows for rows, _ in parts], [part for _, part in parts])
    if not bool(torch.isfinite(logits).all()):
        raise NumericsError(
            f"{what}: a logit is not a finite number",
            "train with a lower train.learning_rate, or set compute.precision to fp32",
        )
    return logits


def _own_features(
    classifier: Classifier, texts: list[str], max_length: int, device: Device, what: str
) -> tuple[Rows, Tensor, Tensor | None]:
    """Run the encoder over this process's share: the rows in the order computed, their states."""
    rank, size = share()
    model = classifier.model.to(device.torch_device).eval()
    encoded = encode(classifier.tokenizer, texts, max_length)
    todo = batches(encoded.lengths, device.kind.batch_tokens)
    own = todo[rank::size]
    outputs: list[tuple[Tensor, Tensor | None]] = []
    with torch.inference_mode(), device.autocast():
        # A process without a share computes one batch, for the shape of what it has none of.
        quiet = None if what and rank == 0 else True  # None: quiet but on a terminal
        bar = tqdm(own or todo[:1], what, unit="batch", leave=False, disable=quiet)
        for rows in bar:
            batch = padded([encoded[row] for row in rows], classifier.tokenizer.pad_token_id)
            states, pool = features(
                classifier, {name: tensor.to(model.device) for name, tensor in batch.items()}
            )
            outputs.append((states.cpu(), None if pool is None else pool.cpu()))
    numbers = [row for rows in own for row in rows]
    first = torch.cat([states for states, _ in outputs])[: len(numbers)]
    pooled = [pool for _, pool in outputs if pool is not None]
    return numbers, first, torch.cat(pooled)[: len(numbers)] if pooled else None


def _in_order(rows: Sequence[Rows], values: Sequence[Tensor]) -> Tensor:
    """Return the parts' values, one a row, in the order of the rows' numbers."""
    order = torch.tensor([row for part in rows for row in part], dtype=torch.long).argsort()
    return (torch.cat(list(values)) if len(values) > 1 else values[0])[order]


def probabilities_of(logits: Tensor) -> np.ndarray[Any, Any]:
    """Return softmax probabilities (rows, classes) as float64."""
    return np.asarray(torch.softmax(logits.double(), dim=1).numpy())
