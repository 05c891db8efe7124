"""Attention on a processor in bf16, with a softmax that is computed in float32.

PyTorch's bf16 softmax takes four times as long as the float32 one, with the conversions there and
back, where its rows are as short as a sentence; in float32 it is the more exact one, too.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from transformers import AttentionInterface, AttentionMaskInterface
from transformers.masking_utils import eager_mask

from stages.model.classifier import Classifier, encoder_of
from stages.model.device import Device

NAME = "eager_softmax_in_float32"  # for Transformers, which looks its kernels up by name


def soften_in_float32(classifier: Classifier, device: Device) -> Callable[[], None]:
    """Use this attention, where the model leaves the choice of its kernel and has the plain one.

    Returns:
        What undoes it.
    """
    encoder: Any = encoder_of(classifier.model)
    config = encoder.config
    leaves_choice = getattr(encoder, "_supports_attention_backend", False)
    plain = leaves_choice and config._attn_implementation == "eager"
    if not (device.is_cpu and device.bf16 and plain):
        return lambda: None
    config._attn_implementation = NAME

    def undo() -> None:
        config._attn_implementation = "eager"

    return undo


def attend(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    scaling: float | None = None,
    dropout: float = 0.0,
    **_: Any,
) -> tuple[Tensor, Tensor]:
    """Return softmax(scaling * Q K' + mask) V as (rows, tokens, heads, width), and the softmax.

    Args:
        module: the attention, in training or not.
        query: (rows, heads, tokens, width), as key and value.
        key: what a query is compared with.
        value: what is summed.
        attention_mask: added to the scores, or None; (rows, 1, 1 or tokens, tokens).
        scaling: of the scores; None is 1 / sqrt(width).
        dropout: share of the weights set to zero in training.
    """
    scaling = query.shape[-1] ** -0.5 if scaling is None else scaling
    scores = torch.matmul(query, key.transpose(2, 3)) * scaling
    if attention_mask is not None:
        scores = scores + attention_mask
    weights = nn.functional.softmax(scores.float(), dim=-1).to(scores.dtype)
    weights = nn.functional.dropout(weights, p=dropout, training=module.training)
    return torch.matmul(weights, value).transpose(1, 2).contiguous(), weights


AttentionInterface.register(NAME, attend)
AttentionMaskInterface.register(NAME, eager_mask)
