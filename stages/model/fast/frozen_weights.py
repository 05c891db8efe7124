"""Frozen linear weights, kept as the matrix products use them: in bf16, and packed."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

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
    """Keep bf16 weights in the order that the processor's kernels read; the results are the same.

    Otherwise each product reorders them anew: a sixth of the time of scoring, and a hundredth or
    two of that of a training step.

    Returns:
        What undoes it.
    """
    packed: list[Any] = []
    for module in model.modules():
        if isinstance(module, nn.Linear) and module.weight.dtype == torch.bfloat16:
            forward: Any = Packed(module)
            module.forward = forward  # type: ignore[method-assign]  # for this module alone
            packed.append(module)

    def undo() -> None:
        for module in packed:
            del module.forward

    return undo


class Packed:
    """What a layer computes, W x + b with both frozen, from weights packed at their first use.

    Those of the backward pass are packed apart, since it multiplies by the transposed ones.

    Args:
        layer: with its weights in bf16, on a processor that has the kernels.
    """

    def __init__(self, layer: nn.Linear) -> None:
        self.layer = layer
        self.state: tuple[int, int] | None = None  # of the weights that were packed
        self.weight: Tensor
        self.transposed: Tensor | None

    def __call__(self, states: Tensor) -> Tensor:
        """Return the layer's output (..., out) for the states (..., in), in bf16."""
        weight = self.layer.weight.detach()
        if self.state != (weight.data_ptr(), weight._version):
            self.state = (weight.data_ptr(), weight._version)
            self.weight, self.transposed = _reordered(weight), None
        states = states.to(torch.bfloat16)
        if not (torch.is_grad_enabled() and states.requires_grad):
            return _product(states, self.weight, self.layer.bias)
        if self.transposed is None:
            self.transposed = _reordered(weight.t().contiguous())
        output: Tensor = _FrozenProduct.apply(  # type: ignore[no-untyped-call]  # left untyped
            states, self.weight, self.transposed, self.layer.bias
        )
        return output


class _FrozenProduct(torch.autograd.Function):
    """W x + b, whose gradient is that of x alone."""

    @staticmethod
    def forward(
        ctx: Any, states: Tensor, weight: Tensor, transposed: Tensor, bias: Tensor | None
    ) -> Tensor:
        ctx.transposed = transposed
        return _product(states, weight, bias)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None, None]:
        return _product(gradient.contiguous(), ctx.transposed, None), None, None, None


def _reordered(weight: Tensor) -> Tensor:
    packed: Tensor = torch.ops.mkldnn._reorder_linear_weight(weight, None)
    return packed


def _product(states: Tensor, packed: Tensor, bias: Tensor | None) -> Tensor:
    product: Tensor = torch.ops.mkldnn._linear_pointwise(states, packed, bias, "none", [], "")
    return product
