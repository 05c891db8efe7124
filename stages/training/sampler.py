"""The order of the training rows: batches of similar length, in another order in each epoch."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from transformers.trainer_pt_utils import LengthGroupedSampler

EPOCH_STEP = 1_000_003  # a prime between the seeds of two epochs


class EpochSampler(LengthGroupedSampler):
    """Rows in batches of similar length, in an order that depends on seed and epoch alone.

    Transformers' own sampler draws from torch's generator, so a resumed epoch would take another
    order; here each epoch has a generator of its own.
    """

    def __init__(self, batch_size: int, lengths: list[int], seed: int) -> None:
        super().__init__(batch_size, lengths=lengths)
        self.seed, self.epoch = seed, 0

    def set_epoch(self, epoch: int) -> None:
        """Choose the order of an epoch, counted from 0."""
        self.epoch = epoch

    def __iter__(self) -> Iterator[int]:
        """Yield row numbers."""
        # guard: order of an epoch
        self.generator = torch.Generator().manual_seed(self.seed + EPOCH_STEP * self.epoch)
        yield from super().__iter__()  # type: ignore[no-untyped-call]  # left untyped
