"""How long a training is and what it may choose, decided by how many rows there are.

metrics/README.md, "How the defaults were chosen", says where the figures come from.
"""

import math
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from transformers import TrainerCallback
from transformers.trainer_pt_utils import LengthGroupedSampler

from stages.core.params import TrainParams
from stages.model.tokens import Encoded, padded
from stages.training import ROWS_TO_CHOOSE

EPOCHS = 3  # passes over the rows, at least
STEPS = 100  # optimiser steps, at least
STEPS_A_CLASS = 3
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
