"""Projections computed together: the same outputs and gradients as PEFT's own, layer by layer."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from stages.core.params import LoraParams, Params
from stages.model import fast
from stages.model.fast import Projections, fuse_projections, run
from stages.model.lora import attach_lora
from tests.support.tiny import MODELS, table

TEXTS = [text for text, _ in table(classes=2, rows=8)]
ATTENTIONS = 2  # one a layer
PLAIN = {"lora_dropout": 0.0, "init_lora_weights": False}


@pytest.fixture
def used(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Return a list that grows by one for each set of projections that is made."""
    calls: list[int] = []

    class Counting(Projections):
        def __init__(self, members: list[Any]) -> None:
            calls.append(len(members))
            super().__init__(members)

    monkeypatch.setattr(fast, "Projections", Counting)
    return calls


def step(classifier: Any) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
    """Return the logits of TEXTS and the gradient of every weight that trains."""
    batch = classifier.tokenizer(TEXTS, padding=True, return_tensors="pt")
    classifier.model.eval().zero_grad()
    inputs = {name: batch[name] for name in ("input_ids", "attention_mask")}
    logits = classifier.model(**inputs).logits
    logits.square().sum().backward()
    named = classifier.model.named_parameters()
    return logits.detach(), {n: p.grad.clone() for n, p in named if p.grad is not None}


def assert_same(classifier: Any) -> None:
    logits, gradients = step(classifier)
    fuse_projections(classifier.model, lambda: run(classifier))
    fused, fused_gradients = step(classifier)
    torch.testing.assert_close(fused, logits, rtol=1e-4, atol=1e-5)
    assert set(gradients) == set(fused_gradients)
    for name, gradient in gradients.items():
        torch.testing.assert_close(fused_gradients[name], gradient, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("name", [name for name in MODELS if name not in ("albert", "deberta")])
def test_outputs_and_gradients_are_those_of_peft(
    load_tiny_base: Any, params: Params, used: list[int], name: str
) -> None:
    assert_same(attach_lora(load_tiny_base(name), params.lora.model_copy(update=PLAIN)))
    assert used == [1 if name == "modernbert" else 3] * ATTENTIONS


@pytest.mark.parametrize("name", ["albert", "deberta"])
def test_shared_layers_and_other_inputs_come_out_right_too(
    load_tiny_base: Any, params: Params, name: str
) -> None:
    assert_same(attach_lora(load_tiny_base(name), params.lora.model_copy(update=PLAIN)))


@pytest.mark.parametrize(
    "change",
    [
        {"use_rslora": True, "rank_pattern": {"key": 2}, "alpha_pattern": {"value": 3}},
        {"target_modules": ["query", "value"]},
        {"target_modules": "all-linear", "layers_to_transform": [1]},
    ],
)
def test_other_ranks_and_targets_are_fused_alike(
    load_tiny_base: Any, params: Params, used: list[int], change: dict[str, Any]
) -> None:
    lora: LoraParams = params.lora.model_copy(update={**PLAIN, **change})
    assert_same(attach_lora(load_tiny_base("bert"), lora))
    assert used


@pytest.mark.parametrize("change", [{"use_dora": True}, {"bias": "lora_only"}, {"bias": "all"}])
def test_what_is_not_plain_is_left_to_peft(
    load_tiny_base: Any, params: Params, used: list[int], change: dict[str, Any]
) -> None:
    assert_same(attach_lora(load_tiny_base("bert"), params.lora.model_copy(update=PLAIN | change)))
    assert used == []


def test_projections_that_read_other_states_are_not_fused(
    load_tiny_base: Any, params: Params, used: list[int]
) -> None:
    mobile = attach_lora(load_tiny_base("MobileBERT"), params.lora.model_copy(update=PLAIN))
    assert_same(mobile)
    assert sorted(used) == [1, 1, 2, 2]  # query and key read the bottleneck, value does not


def test_they_are_told_apart_by_what_they_read_and_not_by_name_or_width(
    load_tiny_base: Any, params: Params, used: list[int]
) -> None:
    classifier = attach_lora(load_tiny_base("bert"), params.lora.model_copy(update=PLAIN))
    attention = classifier.model.base_model.model.bert.encoder.layer[0].attention.self
    own = attention.value.forward
    attention.value.register_forward_pre_hook(lambda _, states: (states[0] * 2,))
    assert attention.value.forward == own
    assert_same(classifier)
    assert sorted(used) == [1, 2, 3]
