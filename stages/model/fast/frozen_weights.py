"""Frozen linear weights, kept as the matrix products use them: in bf16, and packed."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from stages.model.classifier import Classifier, encoder_of, within
from stages.model.device import Device


def round_frozen(classifier: Classifier, device: Device) -> Callable[[], None]:
    """Keep the encoder's frozen linear weights in bf16: autocast would round them at every use.

    The head stays in float32, and so does what trains.

    Returns:
        What undoes it; it keeps the weights as they were until it is dropped.
    """
    before: list[tuple[Any, Tensor]] = []
    if not device.bf16:
        return lambda: None
    encoder: Any = encoder_of(classifier.model)
    inner: Any = getattr(classifier.model, "get_base_model", lambda: classifier.model)()
    for name, module in encoder.named_modules(prefix=inner.base_model_prefix):
        frozen = not any(parameter.requires_grad for parameter in module.parameters())
        if isinstance(module, nn.Linear) and frozen and not within(name, classifier.head):
            before += [(parameter, parameter.data) for parameter in module.parameters()]
            module.to(torch.bfloat16)

    def undo() -> None:
        for parameter, data in before:
            parameter.data = data

    return undo


def pack_frozen(model: nn.Module) -> Callable[[], None]:
    """Keep bf16 weights in the order that the processor's kernels read, for use without gradients.

    Otherwise each product reorders them anew, a sixth of the time of scoring; the results are the
    same bits.

    Returns:
        What undoes it.
    """
    packed: list[Any] = []
    for module in model.modules():
        if isinstance(module, nn.Linear) and module.weight.dtype == torch.bfloat16:
            forward: Any = _packed_forward(module)
            module.forward = forward  # type: ignore[method-assign]  # for this module alone
            packed.append(module)

    def undo() -> None:
        for module in packed:
            del module.forward

    return undo


def _packed_forward(layer: nn.Linear) -> Callable[[Tensor], Tensor]:
    packed: dict[tuple[int, int], Tensor] = {}  # at most one, by the state of the weight

    def forward(states: Tensor) -> Tensor:
        if torch.is_grad_enabled():
            return nn.functional.linear(states, layer.weight, layer.bias)
        state = (layer.weight.data_ptr(), layer.weight._version)
        if state not in packed:
            packed.clear()
            packed[state] = torch.ops.mkldnn._reorder_linear_weight(layer.weight.detach(), None)
        result: Tensor = torch.ops.mkldnn._linear_pointwise(
            states.to(torch.bfloat16), packed[state], layer.bias, "none", [], ""
        )
        return result

    return forward
