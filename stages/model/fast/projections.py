"""Query, key and value read the same states, so their products are computed together.

What PEFT does in nine small matrix products and three dropouts is done in five and one: less
overhead, the same weights, the same adapter. The three share a dropout mask.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from peft.tuners.lora import Linear as LoraLinear
from torch import Tensor, nn
from torch.nn.functional import linear

from stages.model.lora import ATTENTION

ADAPTER = "default"  # what PEFT calls the only adapter here


class Projections:
    """The LoRA layers of one attention that read the same states, in one go.

    Args:
        members: the layers, each of whose `forward` this takes over.
    """

    def __init__(self, members: list[Any]) -> None:
        self.members = members
        self.weight = torch.cat([one.base_layer.weight for one in members])
        self.bias = torch.cat([one.base_layer.bias for one in members])
        self.states: Tensor | None = None
        self.results: dict[int, Tensor] = {}

    def result(self, member: int, states: Tensor) -> Tensor:
        """Return one member's output (..., out) for the states (..., in)."""
        if states is not self.states or member not in self.results:
            self.states, self.results = states, dict(enumerate(self._results(states)))
        found = self.results.pop(member)
        if not self.results:
            self.states = None  # nothing is held longer than it is needed
        return found

    def _results(self, states: Tensor) -> list[Tensor]:
        """Return W x + b + scale * B A dropout(x) of every member."""
        down = [one.lora_A[ADAPTER].weight for one in self.members]
        frozen = linear(states, self.weight, self.bias)
        low = linear(self.members[0].lora_dropout[ADAPTER](states), torch.cat(down))
        return [
            part + linear(inner, one.lora_B[ADAPTER].weight * one.scaling[ADAPTER])
            for one, part, inner in zip(
                self.members,
                torch.split(frozen, [one.out_features for one in self.members], dim=-1),
                torch.split(low, [len(weight) for weight in down], dim=-1),
                strict=True,
            )
        ]


@contextmanager
def fused_projections(model: nn.Module) -> Iterator[None]:
    """Compute the projections of each attention together while the block runs.

    Left as they are: layers with DoRA, biases that train, and what is not adapted by LoRA.
    """
    taken: list[Any] = []
    for parent in model.modules():
        members = [
            one for name, one in parent.named_children() if name in ATTENTION and _is_plain(one)
        ]
        if len(members) > 1:
            together = Projections(members)
            for number, one in enumerate(members):
                one.forward = _taker(together, number)
                taken.append(one)
    try:
        yield
    finally:
        for one in taken:
            del one.forward


def _taker(together: Projections, number: int) -> Any:
    def forward(states: Tensor) -> Tensor:
        return together.result(number, states)

    return forward


def _is_plain(layer: nn.Module) -> bool:
    """Return whether the layer is W x + b + scale * B A dropout(x) with W and b frozen."""
    return (
        isinstance(layer, LoraLinear)
        and layer.base_layer.bias is not None
        and not any(parameter.requires_grad for parameter in layer.base_layer.parameters())
        and not layer.lora_variant
        and list(layer.lora_A) == [ADAPTER]
        and layer.lora_B[ADAPTER].bias is None
    )
