"""Frozen weights in bf16, packed: the same bits for less work."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

from stages.core.params import LoraParams, Params
from stages.model.classifier import encoder_of
from stages.model.device import Device, resolve
from stages.model.fast import pack_frozen, round_frozen
from stages.model.head import freeze_encoder
from stages.model.lora import attach_lora
from stages.scoring.logits import predict_logits
from tests.support.tiny import COMPUTE, MODELS, table

TEXTS = [text for text, _ in table(classes=2, rows=20)]
BF16 = resolve(COMPUTE.model_copy(update={"precision": "bf16"}))


@pytest.fixture
def lora(params: Params) -> LoraParams:
    return params.lora.model_copy(update={"init_lora_weights": False})  # B is not zero


def logits(classifier: Any, device: Device) -> torch.Tensor:
    return predict_logits(classifier, TEXTS, 32, device, "test")


@pytest.mark.parametrize("name", MODELS)
def test_rounding_what_is_frozen_changes_no_bit_in_bf16(load_tiny_base: Any, name: str) -> None:
    base = load_tiny_base(name)
    before = logits(base, BF16)
    freeze_encoder(base)
    round_frozen(base, BF16)
    assert torch.equal(logits(base, BF16), before)
    kinds = (
        {
            module.weight.dtype
            for module in encoder_of(base.model).encoder.modules()
            if isinstance(module, nn.Linear)
        }
        if hasattr(encoder_of(base.model), "encoder")
        else {torch.bfloat16}
    )
    assert kinds == {torch.bfloat16}
    assert {tensor.dtype for tensor in base.head_state().values()} == {torch.float32}


@pytest.mark.skipif(not BF16.packs_bf16, reason="this processor has no such kernels")
@pytest.mark.parametrize("name", MODELS)
def test_packed_weights_give_the_same_bits(load_tiny_base: Any, name: str) -> None:
    base = load_tiny_base(name)
    freeze_encoder(base)
    round_frozen(base, BF16)
    before = logits(base, BF16)
    pack_frozen(base.model)
    assert [module for module in base.model.modules() if "forward" in vars(module)]
    assert torch.equal(logits(base, BF16), before)


@pytest.mark.skipif(not BF16.packs_bf16, reason="this processor has no such kernels")
def test_a_weight_that_changes_is_packed_again(load_tiny_base: Any) -> None:
    base = load_tiny_base("bert")
    freeze_encoder(base)
    round_frozen(base, BF16)
    pack_frozen(base.model)
    before = logits(base, BF16)
    with torch.no_grad():
        encoder_of(base.model).encoder.layer[0].output.dense.weight *= 1.5
    after = logits(base, BF16)
    assert not torch.equal(after, before)
    for module in base.model.modules():
        vars(module).pop("forward", None)
    assert torch.equal(logits(base, BF16), after)


def test_nothing_is_rounded_that_trains_or_in_float32(
    load_tiny_base: Any, lora: LoraParams
) -> None:
    full = load_tiny_base("bert")
    round_frozen(full, BF16)  # every weight trains
    assert {p.dtype for p in full.model.parameters()} == {torch.float32}
    adapted = attach_lora(load_tiny_base("bert"), lora)
    round_frozen(adapted, resolve(COMPUTE))
    assert {p.dtype for p in adapted.model.parameters()} == {torch.float32}
    round_frozen(adapted, BF16)
    assert {p.dtype for p in adapted.model.parameters() if p.requires_grad} == {torch.float32}
    assert adapted.model.base_model.model.bert.encoder.layer[0].output.dense.weight.dtype == (
        torch.bfloat16
    )
