"""Attention with its softmax in float32: the plain one's results, where a model lets us choose."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from stages.model.device import resolve
from stages.model.fast.attention import NAME, attend, soften_in_float32
from stages.model.fast.layer import run
from tests.support.tiny import COMPUTE, MODELS

FP32 = resolve(COMPUTE)
BF16 = resolve(COMPUTE.model_copy(update={"precision": "bf16"}))
OWN_ATTENTION = ("mpnet", "deberta")  # written into the model


@pytest.mark.parametrize("name", MODELS)
def test_the_logits_stay_within_the_rounding_of_bf16(load_tiny_base: Any, name: str) -> None:
    base = load_tiny_base(name)
    base.model.eval()
    with torch.no_grad(), BF16.autocast():
        before = run(base)
        undo = soften_in_float32(base, BF16)
        used = base.model.config._attn_implementation
        after = run(base)
    assert used == ("eager" if name in OWN_ATTENTION else NAME)
    torch.testing.assert_close(after, before, rtol=0.02, atol=0.02)
    undo()
    assert base.model.config._attn_implementation == "eager"


def test_in_float32_nothing_changes(load_tiny_base: Any) -> None:
    base = load_tiny_base("bert")
    soften_in_float32(base, FP32)
    assert base.model.config._attn_implementation == "eager"


@pytest.mark.parametrize("scaling", [None, 0.3])
@pytest.mark.parametrize("masked", [False, True])
def test_it_is_attention(scaling: float | None, masked: bool) -> None:
    torch.manual_seed(0)
    query, key, value = torch.randn(3, 2, 4, 5, 8)  # rows, heads, tokens, width
    mask = torch.zeros(2, 1, 1, 5)
    mask[1, :, :, 3:] = torch.finfo(torch.float32).min
    output, weights = attend(
        torch.nn.Identity(), query, key, value, mask if masked else None, scaling
    )
    expected = torch.nn.functional.scaled_dot_product_attention(
        query, key, value, mask if masked else None, scale=scaling
    )
    torch.testing.assert_close(output, expected.transpose(1, 2))
    torch.testing.assert_close(weights.sum(dim=-1), torch.ones(2, 4, 5))
    assert not masked or float(weights[1, :, :, 3:].abs().max()) == 0


def test_weights_are_dropped_in_training_alone() -> None:
    module = torch.nn.Identity()
    query, key, value = torch.randn(3, 1, 1, 50, 8)
    dropped = attend(module.train(), query, key, value, None, dropout=0.5)[1]
    kept = attend(module.eval(), query, key, value, None, dropout=0.5)[1]
    assert 0.4 < float((dropped == 0).double().mean()) < 0.6
    assert float(kept.min()) > 0
