"""Dropout whose random numbers cost little on a processor.

Drawing a fresh mask for every activation (`bernoulli_`) takes more than a quarter of a training
step on a CPU, since it runs on one core. Here a mask is a window into a pool of random factors
that is drawn once; where the window starts is drawn for every call from torch's generator,
so a seed and a restored generator state give the same masks.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

POOL_SIZE = 1 << 23


class PooledDropout(nn.Module):
    """Inverted dropout (Srivastava et al. 2014) with masks cut from a pool of random factors.

    Args:
        rate: share of the inputs set to zero in training.
        pool: what an input is multiplied by, 0 or 1 / (1 - rate), in random order; see `pool_of`.
    """

    def __init__(self, rate: float, pool: Tensor) -> None:
        super().__init__()
        self.p = rate  # under the name of nn.Dropout: attention that drops by a function reads it
        self.pool = pool

    def forward(self, inputs: Tensor) -> Tensor:
        """Return the inputs with a random share set to zero, or unchanged outside training."""
        size = inputs.numel()
        if not self.training:
            return inputs
        if size > len(self.pool) // 2:
            return nn.functional.dropout(inputs, self.p)
        start = int(torch.randint(len(self.pool) - size, ()))
        return inputs * self.pool[start : start + size].view(inputs.shape)


def pool_of(rate: float, seed: int) -> Tensor:
    """Return random factors of shape (POOL_SIZE,) in bfloat16, which halves what is read.

    The factor 1 / (1 - rate) is rounded to bfloat16, and the rate to what then keeps the
    expected value: 0.1 becomes 0.0986.
    """
    scale = torch.tensor(1 / (1 - rate)).bfloat16()
    generator = torch.Generator().manual_seed(seed)
    kept = torch.rand(POOL_SIZE, generator=generator) < 1 / scale.float()
    return kept.to(torch.bfloat16) * scale


def pool_dropout(model: nn.Module, seed: int) -> None:
    """Replace every nn.Dropout of the model that drops, PEFT's included, by one with a pool."""
    pools: dict[float, Tensor] = {}
    for module in model.modules():
        for name, child in module.named_children():
            if type(child) is nn.Dropout and child.p > 0:
                pool = pools.setdefault(child.p, pool_of(child.p, seed + len(pools)))
                module._modules[name] = PooledDropout(child.p, pool)
