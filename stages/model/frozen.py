"""The frozen body: what trains and what does not, and its weights kept as they are used."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from stages.model.classifier import Classifier, body_of, within
from stages.model.device import Compute


def freeze_body(classifier: Classifier) -> None:
    """Let the head alone take gradients."""
    for name, parameter in classifier.model.named_parameters():
        parameter.requires_grad_(within(name, classifier.head))


def merge_lora(classifier: Classifier) -> Classifier:
    """Return the classifier for scoring: LoRA's update added to the weights it adapts, in float32.

    The logits are those of the adapter up to rounding, without the cost of its own products.
    """
    model = classifier.model
    merged: Any = model.merge_and_unload() if hasattr(model, "peft_config") else model
    return replace(classifier, model=merged.requires_grad_(False))


def round_frozen(classifier: Classifier, compute: Compute) -> None:
    """Keep the body's frozen linear weights in bf16, where every use would round them anew.

    The head stays in float32, and so does what trains.
    """
    if not compute.bf16:
        return
    body: Any = body_of(classifier.model)
    inner: Any = getattr(classifier.model, "get_base_model", lambda: classifier.model)()
    for name, module in body.named_modules(prefix=inner.base_model_prefix):
        frozen = not any(parameter.requires_grad for parameter in module.parameters())
        if isinstance(module, nn.Linear) and frozen and not within(name, classifier.head):
            module.to(torch.bfloat16)


@contextmanager
def packed_weights(model: nn.Module) -> Iterator[None]:
    """Keep bf16 weights in the order that the processor's kernels read, while the block runs.

    Else every product puts them into that order anew, a sixth of the time of scoring; the results
    are the same bits. For use without gradients. On other devices and processors nothing changes.
    """
    can_pack = torch.cpu.get_capabilities().get("avx512_bf16", False)
    packed: list[Any] = [
        module
        for module in model.modules()
        if can_pack
        and isinstance(module, nn.Linear)
        and module.weight.dtype == torch.bfloat16
        and module.weight.device.type == "cpu"
    ]
    for layer in packed:
        layer.forward = _packed(layer)
    try:
        yield
    finally:
        for layer in packed:
            del layer.forward


def _packed(layer: nn.Linear) -> Callable[[Tensor], Tensor]:
    weight = torch.ops.mkldnn._reorder_linear_weight(layer.weight.detach(), None)

    def forward(states: Tensor) -> Tensor:
        result: Tensor = torch.ops.mkldnn._linear_pointwise(
            states.to(torch.bfloat16), weight, layer.bias, "none", [], ""
        )
        return result

    return forward
