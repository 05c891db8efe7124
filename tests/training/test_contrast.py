"""The contrastive loss, against its definition written out."""

import math

import pytest
import torch

from stages.model.head import TEMPERATURE
from stages.training.trainer import contrastive_loss


def by_definition(states: torch.Tensor, targets: list[int]) -> float:
    """Return equation 2 of Khosla et al. 2020, pair by pair, as a mean over rows with a partner."""
    unit = [row / row.norm() for row in states]
    losses = []
    for i, anchor in enumerate(unit):
        others = [j for j in range(len(unit)) if j != i]
        partners = [j for j in others if targets[j] == targets[i]]
        if partners:
            total = sum(math.exp(float(anchor @ unit[j]) / TEMPERATURE) for j in others)
            shares = [math.exp(float(anchor @ unit[j]) / TEMPERATURE) / total for j in partners]
            losses.append(-sum(math.log(share) for share in shares) / len(shares))
    return sum(losses) / len(losses)


@pytest.mark.parametrize("targets", [[0, 0, 1, 1], [0, 1, 0, 2], [0, 0, 0, 0, 1]])
def test_it_is_the_mean_over_rows_with_a_partner(targets: list[int]) -> None:
    states = torch.randn(len(targets), 8, generator=torch.Generator().manual_seed(0))
    states = (states * 3).double()
    expected = by_definition(states, targets)
    assert float(contrastive_loss(states, torch.tensor(targets))) == pytest.approx(expected)


@pytest.mark.parametrize("targets", [[0, 1, 2], [0]])
def test_a_batch_without_partners_adds_nothing(targets: list[int]) -> None:
    states = torch.randn(len(targets), 8, requires_grad=True)
    loss = contrastive_loss(states, torch.tensor(targets))
    assert float(loss.detach()) == 0
    loss.backward()  # type: ignore[no-untyped-call]  # torch left it untyped
    assert states.grad is not None
    assert not states.grad.any()  # and none is nan
