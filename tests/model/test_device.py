"""Device, precision and threads."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import torch

from stages.core.errors import HostError
from stages.core.params import ComputeParams
from stages.model.device import resolve, set_up
from tests.support.tiny import COMPUTE


@pytest.fixture(autouse=True)
def _restored() -> Iterator[None]:
    yield
    torch.set_num_threads(1)


def wanted(**changes: Any) -> ComputeParams:
    return COMPUTE.model_copy(update=changes)


def test_torch_uses_as_many_threads_as_the_params_say() -> None:
    device = set_up(wanted(threads=2))
    assert device.threads == torch.get_num_threads() == 2


def test_torch_is_deterministic() -> None:
    torch.use_deterministic_algorithms(False)
    set_up(wanted())
    assert torch.are_deterministic_algorithms_enabled()


@pytest.mark.parametrize(("precision", "bf16"), [("bf16", True), ("fp32", False)])
def test_a_precision_that_is_asked_for_is_taken(precision: str, bf16: bool) -> None:
    device = resolve(wanted(precision=precision))
    assert (device.precision, device.bf16) == (precision, bf16)


@pytest.mark.parametrize(
    ("capabilities", "bf16"),
    [
        ({"avx512_bf16": True}, True),
        ({"amx_bf16": True, "avx512_bf16": False}, True),
        ({"bf16": True}, True),
        ({"avx512_bf16": False, "avx2": True}, False),
        ({}, False),
    ],
)
def test_auto_takes_bf16_where_the_processor_computes_in_it(
    monkeypatch: pytest.MonkeyPatch, capabilities: dict[str, bool], bf16: bool
) -> None:
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: capabilities)
    device = resolve(wanted(precision="auto"))
    assert (device.native_bf16, device.bf16) == (bf16, bf16)
    assert resolve(wanted(precision="fp32")).native_bf16 is bf16


@pytest.mark.parametrize(
    ("device", "present", "found"),
    [("auto", False, "cpu"), ("auto", True, "cuda"), ("cpu", True, "cpu"), ("cuda", True, "cuda")],
)
def test_cuda_is_taken_where_there_is_one_unless_cpu_is_asked_for(
    monkeypatch: pytest.MonkeyPatch, device: str, present: bool, found: str
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: present)
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda **_: False)
    chosen = resolve(wanted(device=device))
    assert chosen.torch_device == torch.device(found)
    assert chosen.is_cpu == (found == "cpu")
    # The kernel goes with the device that is used, not with the one that is there.
    assert chosen.attention == ("eager" if found == "cpu" else None)
    assert chosen.facts() == {"device": found, "precision": "fp32", "threads": "1"}


def test_cuda_without_a_device_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(HostError, match=r"compute.device: cuda: no CUDA device here") as caught:
        set_up(wanted(device="cuda"))
    assert caught.value.exit_code == 5


@pytest.mark.parametrize(("bf16", "dtype"), [(True, torch.bfloat16), (False, torch.float32)])
def test_matrix_products_use_the_precision(bf16: bool, dtype: torch.dtype) -> None:
    ones = torch.ones(2, 2)
    with resolve(wanted(precision="bf16" if bf16 else "fp32")).autocast():
        assert (ones @ ones).dtype == dtype
    assert (ones @ ones).dtype == torch.float32
