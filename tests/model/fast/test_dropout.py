"""Dropout from a pool of random factors: the same statistics as any other dropout."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from stages.model import fast
from stages.model.fast import PooledDropout, pool_dropout


def pooled(p: float, seed: int = 0) -> PooledDropout:
    model = nn.Sequential(nn.Dropout(p))
    pool_dropout(model, seed)
    layer = model[0]
    assert isinstance(layer, PooledDropout)
    return layer.train()


def deviation(values: torch.Tensor, p: float) -> float:
    """Return the standard error of the share of zeros."""
    return float((p * (1 - p) / values.numel()) ** 0.5)


@pytest.mark.parametrize("p", [0.1, 0.25, 0.5, 0.9])
def test_the_share_is_zeroed_and_the_expected_value_stays(p: float) -> None:
    torch.manual_seed(1)
    outputs = torch.stack([pooled(p)(torch.ones(200, 100)) for _ in range(5)])
    assert float((outputs == 0).double().mean()) == pytest.approx(p, abs=5 * deviation(outputs, p))
    pool = pooled(p).pool.double()  # of 8 million factors
    assert float((pool == 0).double().mean()) == pytest.approx(p, abs=5 * deviation(pool, p))
    assert float(pool.mean()) == pytest.approx(1, abs=5 * deviation(pool, p) / (1 - p))
    kept = pool[pool != 0]
    assert float(kept.mean()) == pytest.approx(1 / (1 - p), rel=1e-5)
    assert float(kept.std()) / float(kept.mean()) < 0.004  # of two neighbours in bfloat16


def test_the_gradient_passes_where_the_value_passes() -> None:
    inputs = torch.ones(1000, requires_grad=True)
    outputs = pooled(0.5)(inputs)
    outputs.sum().backward()
    assert inputs.grad is not None
    assert torch.equal(inputs.grad, outputs.detach())


def masks(seed: int, pool_seed: int = 0) -> torch.Tensor:
    torch.manual_seed(seed)
    layer = pooled(0.5, pool_seed)
    torch.manual_seed(seed)
    return torch.stack([layer(torch.ones(100)) for _ in range(3)])


def test_a_seed_gives_the_same_masks_and_another_gives_others() -> None:
    assert torch.equal(masks(1), masks(1))
    assert not torch.equal(masks(1), masks(2))
    assert not torch.equal(masks(1), masks(1, pool_seed=1))
    assert not torch.equal(masks(1)[0], masks(1)[1])


def test_what_is_larger_than_the_pool_is_dropped_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fast, "POOL_SIZE", 1000)
    layer = pooled(0.5)
    for size in (499, 500, 501, 5000):
        outputs = layer(torch.ones(size))
        assert float((outputs == 0).double().mean()) == pytest.approx(0.5, abs=0.15)


def test_the_dtype_and_the_shape_stay() -> None:
    outputs = pooled(0.5)(torch.ones(2, 3, 4, dtype=torch.bfloat16))
    assert outputs.dtype == torch.bfloat16
    assert outputs.shape == (2, 3, 4)


def test_dropouts_of_one_rate_share_a_pool() -> None:
    inner = nn.ModuleDict({"a": nn.Dropout(0.2), "b": nn.Dropout(0.1)})
    model = nn.Sequential(nn.Dropout(0.1), inner, nn.Linear(2, 2))
    pool_dropout(model, 0)
    found = [module for module in model.modules() if isinstance(module, PooledDropout)]
    assert [module.p for module in found] == [0.1, 0.2, 0.1]
    assert found[0].pool is found[2].pool
    assert not torch.equal(found[0].pool, found[1].pool)
    assert not any(isinstance(module, nn.Dropout) for module in model.modules())
    assert not any("pool" in name for name in model.state_dict())
