"""Pooling: which state of the encoder the head reads, for each row.

A forward hook replaces the encoder's output by the pooled state alone, so that each architecture's
own path from encoder to logits stays what it is, and whatever wraps the model keeps working.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal

from torch import nn
from transformers.modeling_outputs import BaseModelOutputWithPooling

Pooling = Literal["auto", "first", "mean"]
# The names that configurations give to a pooling: ModernBERT's, and EuroBERT's "bos".
OF_CONFIG: dict[str | None, Pooling] = {"cls": "first", "bos": "first", "mean": "mean"}


def set_pooling(model: Any, pooling: Pooling) -> Pooling:
    """Let the model's head read the chosen state, and return what `auto` means for this model.

    Pooling other than the architecture's own does without its pooler, a dense layer on the first
    token's state. Where the configuration names a pooling, it is kept in step.

    Args:
        model: a Transformers sequence classifier, as it was loaded; changed in place.
        pooling: first = the first token's state; mean = the mean of the states of all tokens but
            padding; auto = what the configuration or else the architecture's classifier reads.
    """
    named = getattr(model.config, "classifier_pooling", None)
    if pooling == "auto":
        pooling = OF_CONFIG.get(named, "auto")
    if pooling == "auto":
        return pooling
    if named is not None:
        first = "bos" if model.config.model_type == "eurobert" else "cls"
        model.config.classifier_pooling = "mean" if pooling == "mean" else first
    encoder = getattr(model, model.base_model_prefix)
    if getattr(encoder, "pooler", None) is not None:
        encoder.pooler = nn.Identity()  # some architectures call it even where it is None
    encoder.register_forward_hook(_POOL[pooling], with_kwargs=True)
    return pooling


def _first(_: Any, __: Any, ___: Any, output: Any) -> BaseModelOutputWithPooling:
    first = output.last_hidden_state[:, :1].float()
    return BaseModelOutputWithPooling(last_hidden_state=first, pooler_output=first[:, 0])


def _mean(_: Any, __: Any, inputs: dict[str, Any], output: Any) -> BaseModelOutputWithPooling:
    mask = inputs["attention_mask"].unsqueeze(-1).float()
    mean = (output.last_hidden_state.float() * mask).sum(1, keepdim=True)
    mean = mean / mask.sum(1, keepdim=True)
    return BaseModelOutputWithPooling(last_hidden_state=mean, pooler_output=mean[:, 0])


_POOL: dict[str, Callable[..., BaseModelOutputWithPooling]] = {"first": _first, "mean": _mean}
