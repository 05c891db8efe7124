"""How several processes share each training batch, so that a step is the same as with one.

The rows of a step, and their weights in the loss, do not depend on the number of processes: each
takes every n-th row of a batch, which holds rows of similar length in the order of their length.
DistributedDataParallel averages the gradients (Li et al. 2020, arXiv 2006.15704).
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import torch
from accelerate.data_loader import DataLoaderShard
from transformers import TrainerCallback

from stages.running import processes
from stages.training.batches import Collator
from stages.training.sampler import EpochSampler

STREAMS = 2_000_003  # a prime between the seeds of two processes' random numbers
Key = tuple[int, int]  # a row's number, and how many rows its batch has


class ShareOfBatches(torch.utils.data.Sampler[list[Key]]):
    """This process's rows of each batch of the training.

    A batch with fewer rows than there are processes leaves some without: they take its first row
    with a weight of 0, since all of them have to take part in a step.

    Args:
        sampler: the rows of an epoch in their order.
        batch_size: rows of a batch, over all processes.
        rank: number of this process, from 0.
        size: how many there are.
    """

    def __init__(self, sampler: EpochSampler, batch_size: int, rank: int, size: int) -> None:
        self.sampler, self.batch_size, self.rank, self.size = sampler, batch_size, rank, size

    def set_epoch(self, epoch: int) -> None:
        """Choose the order of an epoch, counted from 0."""
        self.sampler.set_epoch(epoch)

    def __len__(self) -> int:
        return math.ceil(len(self.sampler) / self.batch_size)

    def __iter__(self) -> Iterator[list[Key]]:
        """Yield the keys of each batch: (row, rows of the whole batch), or (row, 0) to fill up."""
        rows = list(self.sampler)
        for start in range(0, len(rows), self.batch_size):
            batch = rows[start : start + self.batch_size]
            own = batch[self.rank :: self.size]
            yield [(row, len(batch)) for row in own] or [(batch[0], 0)]


class _KeyedRows(torch.utils.data.Dataset[tuple[dict[str, Any], int]]):
    def __init__(self, rows: Any) -> None:
        self.rows = rows

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, key: Key) -> tuple[dict[str, Any], int]:
        return self.rows[key[0]], key[1]


class _ShareCollator:
    """Pad a share as a batch, with `weight`, by which the sum of its losses counts.

    DistributedDataParallel divides by the number of processes; the loss of the batch is the mean
    over its own rows.
    """

    def __init__(self, collator: Collator, size: int) -> None:
        self.collator, self.size = collator, size

    def __call__(self, share: list[tuple[dict[str, Any], int]]) -> dict[str, Any]:
        whole = share[0][1]
        batch = self.collator([row for row, _ in share])
        return batch | {"weight": self.size / whole if whole else 0.0}


def shared_batches(
    rows: Any, sampler: EpochSampler, collator: Collator, pins_memory: bool
) -> DataLoaderShard:
    """Return this process's share of the batches.

    Args:
        rows: the training rows.
        sampler: their order, and the size of a batch.
        collator: makes a batch of rows.
        pins_memory: see `Device`.
    """
    rank, size = processes.share()
    return DataLoaderShard(
        _KeyedRows(rows),
        batch_sampler=ShareOfBatches(sampler, sampler.batch_size, rank, size),
        collate_fn=_ShareCollator(collator, size),
        pin_memory=pins_memory,
    )


class OwnRandomNumbers(TrainerCallback):
    """Give a process random numbers of its own: with the others' its dropout would be theirs.

    Args:
        seed: of the training.
        rank: number of the process.
    """

    def __init__(self, seed: int, rank: int) -> None:
        self.seed = seed + STREAMS * rank

    def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:  # noqa: ARG002  # the Trainer's signature
        """Set the seed; a checkpoint's state of the random numbers replaces it later."""
        torch.manual_seed(self.seed)
