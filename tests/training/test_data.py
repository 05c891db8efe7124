"""How long a training is, by its arithmetic, and rows as the Trainer takes them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest

from stages.training.data import Collator, plan_of
from tests.support.tiny import changed, shipped

AUTO = changed(
    shipped(), train__epochs="auto", train__batch_size=32, train__contrastive="auto"
).train


def rows(classes: int, each: int) -> list[int]:
    return [number for number in range(classes) for _ in range(each)]


@pytest.mark.parametrize(
    ("targets", "steps"),
    [
        (rows(6, 14), 100),  # 3 batches a pass, 100 steps at least
        (rows(77, 7), 231),  # 17 batches a pass, 3 steps a class
        (rows(2, 4226), 795),  # 265 batches a pass, three passes
        (rows(1, 32 * 33), 100),
        (rows(1, 32 * 33 + 1), 102),
    ],
)
def test_auto_is_three_passes_but_enough_steps(targets: list[int], steps: int) -> None:
    plan = plan_of(AUTO, targets, 1000)
    assert plan.steps == steps
    assert f"{steps:,} steps of 32 rows" in plan.lines[0]
    assert f"{len(targets):,} rows of {len(set(targets))} classes" in plan.lines[0]
    assert steps / 6 <= plan.interval < steps / 6 + 1


@pytest.mark.parametrize("epochs", [0, 1, 7])
def test_a_number_of_passes_is_obeyed(epochs: int) -> None:
    train = AUTO.model_copy(update={"epochs": epochs})
    assert plan_of(train, rows(6, 14), 1000).steps == 3 * epochs


@pytest.mark.parametrize(("validation", "chooses"), [(1, False), (99, False), (100, True)])
def test_few_validation_rows_choose_nothing_and_the_plan_says_so(
    validation: int, chooses: bool
) -> None:
    plan = plan_of(AUTO, rows(2, 50), validation)
    assert plan.chooses == chooses
    assert any(f"{validation} validation rows cannot choose" in s for s in plan.lines) != chooses


@pytest.mark.parametrize(
    ("each", "weight"), [(4, 1.0), (16, 1.0), (32, 0.5), (64, 0.25), (320, 0.05), (321, 0.0)]
)
def test_the_contrastive_part_fades_with_the_rows_of_a_class(each: int, weight: float) -> None:
    assert plan_of(AUTO, rows(3, each), 10).contrastive == pytest.approx(weight)


def test_a_contrastive_weight_is_obeyed() -> None:
    assert plan_of(AUTO.model_copy(update={"contrastive": 2.5}), rows(2, 900), 1).contrastive == 2.5


def test_a_batch_is_padded_to_its_longest_row() -> None:
    batch: list[Mapping[str, Any]] = [
        {"input_ids": np.array([5, 6, 7]), "labels": 1, "rows": 9},
        {"input_ids": np.array([8]), "labels": 0, "rows": 2},
    ]
    made = Collator(pad_token_id=4)(batch)
    assert made["input_ids"].tolist() == [[5, 6, 7], [8, 4, 4]]
    assert made["attention_mask"].tolist() == [[1, 1, 1], [1, 0, 0]]
    assert made["labels"].tolist() == [1, 0]
    assert made["rows"] == [9, 2]
