"""LoRA on a classifier: how much of it trains, what it says of itself, and merging."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from stages.core.params import LoraParams, Params
from stages.model.lora import attach_lora
from tests.support.adapters import logits, shaken
from tests.support.tiny import MODELS


@pytest.fixture
def lora(params: Params) -> LoraParams:
    return params.lora


@pytest.mark.parametrize(
    ("name", "changes", "count"),
    [
        ("bert", {}, 2 * 3 * 4 * (32 + 32) + 32 * 2 + 2),
        ("bert-no-pooler", {}, 2 * 3 * 4 * (32 + 32) + 32 * 32 + 32 + 32 * 2 + 2),
        ("roberta", {"r": 1}, 2 * 3 * 1 * (32 + 32) + 32 * 32 + 32 + 32 * 2 + 2),
        ("bert", {"layers_to_transform": [1]}, 1 * 3 * 4 * (32 + 32) + 32 * 2 + 2),
        ("bert", {"rank_pattern": {"layer.1.*query": 9}}, (5 * 4 + 9) * (32 + 32) + 32 * 2 + 2),
        ("bert", {"bias": "lora_only"}, 2 * 3 * (4 * (32 + 32) + 32) + 32 * 2 + 2),
        ("bert", {"use_dora": True}, 2 * 3 * (4 * (32 + 32) + 32) + 32 * 2 + 2),
        ("bert", {"modules_to_save": ["bert.pooler"]}, 1536 + 32 * 32 + 32 + 32 * 2 + 2),
    ],
)
def test_just_so_many_parameters_train(
    load_tiny_base: Any, lora: LoraParams, name: str, changes: dict[str, Any], count: int
) -> None:
    classifier = attach_lora(load_tiny_base(name), lora.model_copy(update=changes))
    assert classifier.model.get_nb_trainable_parameters()[0] == count


@pytest.mark.parametrize("name", MODELS)
def test_an_untrained_adapter_of_all_layers_changes_no_bit_of_the_logits(
    load_tiny_base: Any, lora: LoraParams, name: str
) -> None:
    base = load_tiny_base(name)
    before = logits(base)
    fresh = attach_lora(base, lora.model_copy(update={"target_modules": "all-linear"}))
    assert torch.equal(logits(fresh), before)
    assert not torch.equal(logits(shaken(fresh)), before)
