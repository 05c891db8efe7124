"""How long a training is and what it may choose, decided by how many rows there are.

The figures come from a study on data sets of 48 to 10,000 rows and 2 to 77 classes
(metrics/README.md, "How the defaults were chosen").
"""

import math
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from accelerate.data_loader import DataLoaderShard
from transformers import TrainerCallback
from transformers.trainer_pt_utils import LengthGroupedSampler

from stages.core.params import TrainParams
from stages.model.tokens import Encoded, padded
from stages.running import processes

EPOCHS = 3  # passes over the rows, at least
STEPS = 100  # optimiser steps, at least
STEPS_A_CLASS = 3
ROWS_TO_CHOOSE = 100  # validation rows; fewer cannot tell one checkpoint from another
ROWS_A_CLASS = 16  # with as many the contrastive part has its full weight
LEAST_CONTRASTIVE = 0.05  # a weight below is left out


@dataclass(frozen=True)
class Plan:
    """A training of these rows.

    Attributes:
        steps: optimiser steps; 0 trains nothing.
        interval: steps from one evaluation to the next; the last step is evaluated too.
        contrastive: weight of the contrastive part of the loss.
        chooses: whether validation chooses the step that is kept, and may stop early.
        weights: of a row's loss by its class; None for none.
        lines: what a person should know of it.
    """

    steps: int
    interval: int
    contrastive: float
    chooses: bool
    weights: tuple[float, ...] | None
    lines: tuple[str, ...]


def plan_of(train: TrainParams, targets: list[int], validation_rows: int) -> Plan:
    """Return the plan of a training.

    Args:
        train: the settings.
        targets: label numbers of the training rows.
        validation_rows: how many there are.
    """
    rows, counts = len(targets), Counter(targets)
    batches = math.ceil(rows / train.batch_size)
    if train.epochs == "auto":
        steps = max(EPOCHS * batches, STEPS, STEPS_A_CLASS * len(counts))
    else:
        steps = train.epochs * batches
    a_class = rows / len(counts)
    if train.contrastive == "auto":
        weight = min(1.0, ROWS_A_CLASS / a_class)
        weight = weight if weight >= LEAST_CONTRASTIVE else 0.0
    else:
        weight = train.contrastive
    chooses = validation_rows >= ROWS_TO_CHOOSE
    weights = None
    if train.class_weight == "balanced":
        weights = tuple(a_class / counts[number] for number in range(len(counts)))
    lines = []
    if steps:
        lines.append(
            f"{steps:,} steps of {min(train.batch_size, rows)} rows: "
            f"{steps / batches:.3g} passes over {rows:,} rows of {len(counts)} classes"
        )
        if train.epochs == "auto":
            lines[0] += f" (at least {EPOCHS} passes, {STEPS} steps and {STEPS_A_CLASS} a class)"
    if steps and not chooses:
        lines.append(
            f"{validation_rows} validation rows cannot choose a checkpoint "
            f"(that takes {ROWS_TO_CHOOSE}): the last average of the weights is taken"
        )
    return Plan(
        steps=steps,
        interval=max(1, math.ceil(steps / train.evaluations)),
        contrastive=weight,
        chooses=chooses,
        weights=weights,
        lines=tuple(lines),
    )


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


class TrainingRows(torch.utils.data.Dataset[dict[str, Any]]):
    """The training rows: token ids, label number, and the row's own number.

    Args:
        encoded: token ids of all texts.
        targets: label numbers, one a text.
    """

    def __init__(self, encoded: Encoded, targets: list[int]) -> None:
        self.encoded, self.targets = encoded, targets

    def __len__(self) -> int:
        return len(self.encoded)

    def __getitem__(self, row: int) -> dict[str, Any]:
        return {"input_ids": self.encoded[row], "labels": self.targets[row], "rows": row}


class Collator:
    """Pad a batch to its longest row: input_ids, attention_mask (rows, longest), labels, rows.

    Args:
        pad_token_id: the token that fills shorter rows.
    """

    def __init__(self, pad_token_id: int) -> None:
        self.pad_token_id = pad_token_id

    def __call__(self, batch: list[Mapping[str, Any]]) -> dict[str, Any]:
        """Return the rows as one batch."""
        return {
            **padded([row["input_ids"] for row in batch], self.pad_token_id),
            "labels": torch.tensor([row["labels"] for row in batch]),
            "rows": [row["rows"] for row in batch],
        }


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
