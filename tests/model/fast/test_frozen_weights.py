"""What is frozen costs less and changes nothing: rounding, merging, tokens that no head reads."""

from __future__ import annotations

from contextlib import nullcontext
from typing import Any

import pytest
import torch
from torch import nn

from stages.core.params import LoraParams, Params
from stages.model.classifier import body_of, within
from stages.model.device import Compute, set_up
from stages.model.frozen import freeze_body, merge_lora, packed_weights, round_frozen
from stages.model.lora import attach_lora
from stages.scoring import logits as scoring
from stages.scoring.logits import predict_logits
from tests.support.tiny import COMPUTE, MODELS, table

TEXTS = [text for text, _ in table(classes=2, rows=20)]
BF16 = Compute(torch.device("cpu"), True)


@pytest.fixture
def lora(params: Params) -> LoraParams:
    return params.lora.model_copy(update={"init_lora_weights": False})  # B is not zero


def logits(classifier: Any, compute: Compute) -> torch.Tensor:
    return predict_logits(classifier, TEXTS, 32, compute, "test")


@pytest.mark.parametrize("name", MODELS)
def test_rounding_what_is_frozen_changes_no_bit_in_bf16(standing: Any, name: str) -> None:
    base = standing(name)
    before = logits(base, BF16)
    freeze_body(base)
    round_frozen(base, BF16)
    assert torch.equal(logits(base, BF16), before)
    kinds = (
        {
            module.weight.dtype
            for module in body_of(base.model).encoder.modules()
            if isinstance(module, nn.Linear)
        }
        if hasattr(body_of(base.model), "encoder")
        else {torch.bfloat16}
    )
    assert kinds == {torch.bfloat16}
    assert {tensor.dtype for tensor in base.head_state().values()} == {torch.float32}


@pytest.mark.parametrize("name", MODELS)
def test_packed_weights_change_no_bit_and_are_put_back(
    standing: Any, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    base = standing(name)
    freeze_body(base)
    round_frozen(base, BF16)
    with packed_weights(base.model):
        taken = [m for m in base.model.modules() if "forward" in vars(m)]
    native = torch.cpu.get_capabilities().get("avx512_bf16", False)
    assert bool(taken) == native
    assert not [m for m in base.model.modules() if "forward" in vars(m)]
    packed = logits(base, BF16)
    monkeypatch.setattr(scoring, "packed_weights", lambda _: nullcontext())
    assert torch.equal(logits(base, BF16), packed)


def test_nothing_is_rounded_that_trains_or_in_float32(standing: Any, lora: LoraParams) -> None:
    whole = standing("bert")
    round_frozen(whole, BF16)  # every weight trains
    assert {p.dtype for p in whole.model.parameters()} == {torch.float32}
    adapted = attach_lora(standing("bert"), lora)
    round_frozen(adapted, set_up(COMPUTE))
    assert {p.dtype for p in adapted.model.parameters()} == {torch.float32}
    round_frozen(adapted, BF16)
    assert {p.dtype for p in adapted.model.parameters() if p.requires_grad} == {torch.float32}
    assert adapted.model.base_model.model.bert.encoder.layer[0].output.dense.weight.dtype == (
        torch.bfloat16
    )


@pytest.mark.parametrize("name", MODELS)
def test_only_the_head_takes_gradients(standing: Any, name: str) -> None:
    base = standing(name)
    freeze_body(base)
    trains = {n for n, p in base.model.named_parameters() if p.requires_grad}
    assert trains == {n for n, _ in base.model.named_parameters() if within(n, base.head)}
    assert trains


@pytest.mark.parametrize("name", MODELS)
def test_a_merged_adapter_predicts_as_it_did(standing: Any, lora: LoraParams, name: str) -> None:
    classifier = attach_lora(standing(name), lora)
    before = logits(classifier, set_up(COMPUTE))
    merged = merge_lora(classifier)
    assert not hasattr(merged.model, "peft_config") or not any(
        "lora_" in name for name, _ in merged.model.named_parameters()
    )
    torch.testing.assert_close(logits(merged, set_up(COMPUTE)), before, rtol=1e-4, atol=1e-5)
    assert not any(parameter.requires_grad for parameter in merged.model.parameters())


@pytest.mark.parametrize("name", MODELS)
def test_tokens_that_no_head_reads_are_skipped_without_effect(standing: Any, name: str) -> None:
    classifier = standing(name)
    skipping = logits(classifier, set_up(COMPUTE))
    hooked = [m for m in classifier.model.modules() if m._forward_pre_hooks]
    assert len(hooked) == (name in ("bert", "bert-no-pooler", "roberta", "electra", "deberta"))
    for module in hooked:
        module._forward_pre_hooks.clear()
    torch.testing.assert_close(logits(classifier, set_up(COMPUTE)), skipping, rtol=1e-5, atol=1e-6)
