"""LoRA's products with less overhead: the same weights, the same adapter.

Where query, key and value read the same states, theirs are computed together: what PEFT does in
nine small matrix products and three dropouts is done in five and one. The three share a dropout
mask. Every layer rounds its input once, and adds its update in the product that makes it.

Which layers read the same states is seen in a forward pass, not taken from their names: in
MobileBERT, for one, value reads other states than query and key.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from peft.tuners.lora import Linear as LoraLinear
from torch import Tensor, nn
from torch.nn.functional import linear

from stages.model.lora import ADAPTER


class Projections:
    """The LoRA layers of one attention that read the same states.

    Args:
        members: the layers, whose `forward` this replaces.
    """

    def __init__(self, members: list[Any]) -> None:
        self.members = members
        self.frozen: tuple[Tensor, Tensor] | None = None
        self.states: Tensor | None = None
        self.results: dict[int, Tensor] = {}

    def result(self, member: int, states: Tensor) -> Tensor:
        """Return one member's output (..., out) for the states (..., in)."""
        if states is not self.states or member not in self.results:
            self.states, self.results = states, dict(enumerate(self._results(states)))
        output = self.results.pop(member)
        if not self.results:
            self.states = None  # nothing is kept longer than it is needed
        return output

    def _results(self, states: Tensor) -> list[Tensor]:
        """Return W x + b + scale * B A dropout(x) of every member."""
        kind = states.device.type
        if torch.is_autocast_enabled(kind):
            states = states.to(torch.get_autocast_dtype(kind))
        dropped = self.members[0].lora_dropout[ADAPTER](states)
        if len(self.members) == 1:
            (layer,) = self.members
            low = linear(dropped, layer.lora_A[ADAPTER].weight)
            return [_with_update(layer.base_layer(states), low, layer)]
        down = [layer.lora_A[ADAPTER].weight for layer in self.members]
        frozen = linear(states, *self._frozen_weights())
        low = linear(dropped, torch.cat(down))
        return [
            _with_update(part, inner, layer)
            for layer, part, inner in zip(
                self.members,
                torch.split(frozen, [layer.out_features for layer in self.members], dim=-1),
                torch.split(low, [len(weight) for weight in down], dim=-1),
                strict=True,
            )
        ]

    def _frozen_weights(self) -> tuple[Tensor, Tensor]:
        """Return the members' frozen weights and biases as one weight and one bias.

        They are joined at the first use and kept as long as they are where, and of the type, that
        they were: the trainer moves them to the device, and `round_frozen` rounds them.
        """
        bases = [layer.base_layer for layer in self.members]
        now = (bases[0].weight.device, bases[0].weight.dtype)
        if self.frozen is None or (self.frozen[0].device, self.frozen[0].dtype) != now:
            weight = torch.cat([base.weight.detach() for base in bases])
            biases = [
                b.weight.new_zeros(b.out_features) if b.bias is None else b.bias for b in bases
            ]
            self.frozen = weight, torch.cat([bias.detach() for bias in biases])
        return self.frozen


def _with_update(frozen: Tensor, low: Tensor, layer: Any) -> Tensor:
    """Return frozen (..., out) + scale * B low for the states A x = low (..., r)."""
    up = layer.lora_B[ADAPTER].weight * layer.scaling[ADAPTER]
    flat = torch.addmm(frozen.reshape(-1, len(up)), low.reshape(-1, up.shape[1]), up.t())
    return flat.view(frozen.shape)


def fuse_projections(model: nn.Module, forward: Callable[[], Any]) -> Callable[[], None]:
    """Compute layers that read the same states together from now on, other layers each alone.

    Left as they are: layers with DoRA, biases that train, what LoRA does not adapt, and layers that
    the forward pass does not call.

    Args:
        model: with LoRA attached.
        forward: runs the model on a few texts, so that it is seen which layers read the same.

    Returns:
        What undoes it.
    """
    layers: list[Any] = []
    for members in _same_states(model, forward):
        together = Projections(members)
        for number, layer in enumerate(members):
            layer.forward = _member_forward(together, number)
            layers.append(layer)

    def undo() -> None:
        for layer in layers:
            del layer.forward

    return undo


def _same_states(model: nn.Module, forward: Callable[[], Any]) -> list[list[Any]]:
    """Return the plain LoRA layers; those of one parent that read the very same tensors together.

    A layer that is called several times reads several, one after another (ALBERT's are shared).
    """
    parents: dict[Any, int] = {}
    for parent in model.modules():
        for child in parent.children():
            if _is_plain_lora(child):
                parents.setdefault(child, id(parent))
    read: dict[Any, list[Tensor]] = {layer: [] for layer in parents}
    hooks = [
        layer.register_forward_pre_hook(lambda layer, states: read[layer].append(states[0]))
        for layer in parents
    ]
    try:
        with torch.no_grad():
            forward()
    finally:
        for hook in hooks:
            hook.remove()
    groups: dict[tuple[int, ...], list[Any]] = {}  # the tensors are kept, so no id is used twice
    for layer, parent_id in parents.items():
        if read[layer]:
            key = (parent_id, *(id(states) for states in read[layer]))
            groups.setdefault(key, []).append(layer)
    return list(groups.values())


def _member_forward(together: Projections, number: int) -> Any:
    def forward(states: Tensor) -> Tensor:
        return together.result(number, states)

    return forward


def _is_plain_lora(layer: nn.Module) -> bool:
    """Return whether the layer is W x + b + scale * B A dropout(x) with W and b frozen."""
    return (
        isinstance(layer, LoraLinear)
        and not any(parameter.requires_grad for parameter in layer.base_layer.parameters())
        and not layer.lora_variant
        and list(layer.lora_A) == [ADAPTER]
        and layer.lora_B[ADAPTER].bias is None
    )
