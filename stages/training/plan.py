"""How long a training is and what it may choose, decided by how many rows there are.

The figures come from a study on data sets of 48 to 10,000 rows and 2 to 77 classes
(metrics/README.md, "How the defaults were chosen").
"""

import math
from collections import Counter
from dataclasses import dataclass

from stages.core.params import TrainParams

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
        lines: what a person should know of it.
    """

    steps: int
    interval: int
    contrastive: float
    chooses: bool
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
    return Plan(steps, max(1, math.ceil(steps / train.evaluations)), weight, chooses, tuple(lines))
