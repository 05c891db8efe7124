"""The one call that makes a classifier fast; without it everything works and gives the same model.

What it changes is how a result is computed, not which: the same weights train, to the same values
up to rounding and the random masks of dropout. Each part is in a module of its own:

    first_token      the last layer computes only the state that the head reads
    projections      the LoRA products of one attention are computed together
    frozen_weights   frozen linear weights are kept in bf16, and packed for the processor's kernels
    dropout          dropout masks are cut from a pool on a processor

Each but dropout, which nothing can compare, is tried on a few texts: what does not give the plain
model's logits and gradients is taken off again.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext

import torch
from torch import Tensor

from stages.model.classifier import Classifier
from stages.model.device import Device
from stages.model.fast.dropout import pool_dropout
from stages.model.fast.first_token import compute_first_token_only
from stages.model.fast.frozen_weights import pack_frozen, round_frozen
from stages.model.fast.projections import fuse_projections
from stages.model.halves import PROBE, probe_batch
from stages.model.unchanged import unchanged

TEXTS = [*PROBE, "a longer text " * 8]
EXACT = 1e-3  # largest difference in float32, as a share of the largest value
SAME = 1e-2  # the same where the arithmetic is the very same, in bf16: two roundings at most
Seen = list[Tensor]


def speed_up(classifier: Classifier, device: Device, seed: int) -> None:
    """Make the classifier fast in place. Call it once, when it is known what trains.

    Args:
        classifier: with its method attached, or merged for scoring.
        device: what it will run on.
        seed: of the pool of dropout masks.
    """
    model = classifier.model
    tried: list[tuple[str, Callable[[], Callable[[], None]], bool]] = [
        ("the first token alone", lambda: compute_first_token_only(classifier), False),
        ("fused projections", lambda: fuse_projections(model, lambda: _traced(classifier)), False),
        ("rounded frozen weights", lambda: round_frozen(classifier, device), True),
        ("packed weights", lambda: pack_frozen(model), True),
    ]
    last: dict[bool, Seen] = {}
    for name, put_on, in_bf16 in tried:
        if in_bf16 and not (device.bf16 if name != "packed weights" else device.packs_bf16):
            continue
        context = device.autocast if in_bf16 else nullcontext
        with unchanged(model):
            plain = last.get(in_bf16) or _seen(classifier, context)
        take_off = put_on()
        with unchanged(model):
            fast = _seen(classifier, context)
        if _differ(plain, fast, SAME if in_bf16 else EXACT):
            take_off()
            print(f"note: without a speed-up ({name}): it does not give this model's own logits")
        last = {in_bf16: plain}
    if device.is_cpu:
        pool_dropout(model, seed)


def run(classifier: Classifier) -> Tensor:
    """Return the logits of TEXTS, shape (texts, classes)."""
    batch = probe_batch(classifier.tokenizer, TEXTS)
    at = next(classifier.model.parameters()).device
    logits: Tensor = classifier.model(**{name: each.to(at) for name, each in batch.items()}).logits
    return logits


def _traced(classifier: Classifier) -> None:
    """Run the model for whoever watches it, without dropout and without a trace."""
    with unchanged(classifier.model):
        classifier.model.eval()
        run(classifier)


def _seen(classifier: Classifier, context: Callable[[], AbstractContextManager[None]]) -> Seen:
    """Return the logits of TEXTS without and with gradients, and the gradients of what trains."""
    trains = [p for p in classifier.model.parameters() if p.requires_grad]
    classifier.model.eval()
    with context():
        with torch.no_grad():
            alone = run(classifier)
        logits = run(classifier)
    if not trains:
        return [alone, logits]
    found = torch.autograd.grad(logits.float().square().sum(), trains, allow_unused=True)
    return [alone, logits.detach(), *(torch.zeros(()) if g is None else g for g in found)]


def _differ(plain: Seen, fast: Seen, tolerance: float) -> bool:
    """Return whether logits or gradients differ by more than a share of the largest of them."""
    largest = max((float(gradient.abs().max()) for gradient in plain[2:]), default=0.0)
    scales = [float(plain[0].abs().max())] * 2 + [largest] * len(plain[2:])
    return any(
        a.shape != b.shape or not float((a.float() - b.float()).abs().max()) <= tolerance * scale
        for a, b, scale in zip(plain, fast, scales, strict=True)
    )
