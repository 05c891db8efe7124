"""The one call that makes a classifier fast; without it everything works and gives the same model.

What it changes is how a result is computed, not which: the same weights train, to the same values
up to rounding and the random masks of dropout. Each part is in a module of its own:

    first_token      the last layer computes only the state that the head reads
    frozen_weights   frozen linear weights are kept in bf16, and packed for the processor's kernels
    projections      the LoRA products of one attention are computed together
    dropout          dropout masks are cut from a pool on a processor
"""

from __future__ import annotations

from stages.model.classifier import Classifier
from stages.model.device import Device
from stages.model.fast.dropout import pool_dropout
from stages.model.fast.first_token import compute_first_token_only
from stages.model.fast.frozen_weights import pack_frozen, round_frozen
from stages.model.fast.projections import fuse_projections


def speed_up(classifier: Classifier, device: Device, seed: int) -> None:
    """Make the classifier fast in place. Call it once, when it is known what trains.

    Args:
        classifier: with its method attached, or merged for scoring.
        device: what it will run on.
        seed: of the pool of dropout masks.
    """
    compute_first_token_only(classifier)
    round_frozen(classifier, device)
    fuse_projections(classifier.model)
    if device.is_cpu:
        pool_dropout(classifier.model, seed)
    if device.packs_bf16:
        pack_frozen(classifier.model)
