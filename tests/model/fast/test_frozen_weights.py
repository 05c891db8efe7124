"""Frozen weights in bf16: the same bits for less work."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

from stages.core.params import LoraParams, Params
from stages.model.classifier import encoder_of
from stages.model.device import Device, resolve
from stages.model.fast import round_frozen
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
    round_frozen(base)
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


def test_nothing_is_rounded_that_trains(load_tiny_base: Any, lora: LoraParams) -> None:
    full = load_tiny_base("bert")
    round_frozen(full)  # every weight trains
    assert {p.dtype for p in full.model.parameters()} == {torch.float32}
    adapted = attach_lora(load_tiny_base("bert"), lora)
    round_frozen(adapted)
    assert {p.dtype for p in adapted.model.parameters() if p.requires_grad} == {torch.float32}
    assert adapted.model.base_model.model.bert.encoder.layer[0].output.dense.weight.dtype == (
        torch.bfloat16
    )
