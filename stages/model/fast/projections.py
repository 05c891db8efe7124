"""LoRA's products with less overhead: the same weights, the same adapter.

Query, key and value read the same states, so theirs are computed together: what PEFT does in nine
small matrix products and three dropouts is done in five and one. The three share a dropout mask.
Every layer rounds its input once, and adds its update in the product that makes it.
"""

from __future__ import annotations

from typing import Any

import torch
from peft.tuners.lora import Linear as LoraLinear
from torch import Tensor, nn
from torch.nn.functional import linear

from stages.model.lora import ADAPTER
from stages.model.lora_targets import ATTENTION


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

        They are joined at the first use and kept: the trainer has moved them to the device by then.
        """
        bases = [layer.base_layer for layer in self.members]
        if self.frozen is None or self.frozen[0].device != bases[0].weight.device:
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


def fuse_projections(model: nn.Module) -> None:
    """Compute the projections of each attention together from now on, other layers each alone.

    Left as they are: layers with DoRA, biases that train, and what LoRA does not adapt.
    """
    for parent in model.modules():
        plain = {name: child for name, child in parent.named_children() if _is_plain_lora(child)}
        attention: list[Any] = [child for name, child in plain.items() if name in ATTENTION]
        others: list[list[Any]] = [[c] for name, c in plain.items() if name not in ATTENTION]
        for members in [attention, *others] if attention else others:
            together = Projections(members)
            for number, layer in enumerate(members):
                layer.forward = _member_forward(together, number)


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
