"""Dropout whose random numbers cost little on a processor.

Drawing a fresh mask for every activation (`bernoulli_`) takes more than a quarter of a training
step on a CPU, since it runs on one core. Here a mask is a window into a pool of random bytes that
is drawn once; where the window starts is drawn afresh for every call from torch's generator, so a
seed and a restored generator state give the same masks.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

POOL_BYTES = 1 << 24
LEVELS = 256  # of a random byte: the rate is rounded to a multiple of 1/256


class PooledDropout(nn.Module):
    """Inverted dropout (Srivastava et al. 2014) with masks cut from a pool of random bytes.

    Args:
        p: share of the inputs set to zero in training, rounded to 1/256; the rest is scaled up so
            that the expected value stays.
        pool: random bytes, of shape (POOL_BYTES,).
    """

    def __init__(self, p: float, pool: Tensor) -> None:
        super().__init__()
        # Attention that drops by a function call reads `p`; it goes without, as validation
        # showed no loss from that.
        self.p = 0.0
        self.threshold = round(p * LEVELS)
        self.scale = LEVELS / (LEVELS - self.threshold)
        self.pool = pool

    def forward(self, inputs: Tensor) -> Tensor:
        """Return the inputs with a random share set to zero, or unchanged outside training."""
        size = inputs.numel()
        if not self.training or self.threshold == 0:
            return inputs
        if size > POOL_BYTES // 2:
            return nn.functional.dropout(inputs, self.threshold / LEVELS)
        start = int(torch.randint(POOL_BYTES - size, ()))
        kept = self.pool[start : start + size].view(inputs.shape) >= self.threshold
        return inputs * (kept.to(inputs.dtype) * self.scale)


def pool_dropout(model: nn.Module, seed: int) -> None:
    """Replace every nn.Dropout of the model, PEFT's included, by one that shares a pool."""
    generator = torch.Generator().manual_seed(seed)
    pool = torch.randint(LEVELS, (POOL_BYTES,), dtype=torch.uint8, generator=generator)
    for module in model.modules():
        for name, child in module.named_children():
            if type(child) is nn.Dropout:
                module._modules[name] = PooledDropout(child.p, pool)
