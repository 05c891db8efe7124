"""The kinds of devices, fastest first: what each one can do, and which of them are here."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch

from stages.core.errors import HostError


@dataclass(frozen=True)
class Kind:
    """A kind of device, and how it is used.

    Attributes:
        name: PyTorch's, and that of compute.device.
        count: how many are here.
        native_bf16: whether the one here multiplies bf16 matrices in hardware.
        bf16: whether bf16 can be used at all.
        attention: name of the attention kernel for Transformers; None leaves the choice to it.
        batch_tokens: padded tokens in one batch of scoring.
        pins_memory: whether batches are prepared in memory that the device copies from directly.
        messages: PyTorch's backend for what several processes say to one another.
    """

    name: str
    count: Callable[[], int]
    native_bf16: Callable[[], bool]
    bf16: bool
    attention: str | None
    batch_tokens: int
    pins_memory: bool
    messages: str

    def require(self, processes: int) -> None:
        """Check that each process on this machine can have a device of its own.

        Raises:
            HostError: if there are fewer.
        """
        here = self.count()
        if self.name != "cpu" and processes > here:
            raise HostError(
                f"compute.processes: {processes} processes on this machine, {here} {self.name} "
                f"device{'s' * (here > 1)} here",
                f"set compute.processes to {here}, or compute.device to cpu",
            )


def _cuda_count() -> int:
    return torch.cuda.device_count() if torch.cuda.is_available() else 0


def _cuda_has_bf16() -> bool:
    return bool(torch.cuda.is_bf16_supported(including_emulation=False))


def _xpu_count() -> int:
    return torch.xpu.device_count() if torch.xpu.is_available() else 0


def _xpu_has_bf16() -> bool:
    return bool(torch.xpu.is_bf16_supported(including_emulation=False))


def _mps_count() -> int:
    return int(torch.backends.mps.is_available())


def _cpu_has_bf16() -> bool:
    features = torch.cpu.get_capabilities()
    return any(features.get(name, False) for name in ("avx512_bf16", "amx_bf16", "bf16"))


KINDS = {
    "cuda": Kind(
        name="cuda",
        count=_cuda_count,
        native_bf16=_cuda_has_bf16,
        bf16=True,
        attention=None,
        batch_tokens=1 << 16,
        pins_memory=True,
        messages="cpu:gloo,cuda:nccl",
    ),
    "xpu": Kind(
        name="xpu",
        count=_xpu_count,
        native_bf16=_xpu_has_bf16,
        bf16=True,
        attention=None,
        batch_tokens=1 << 16,
        pins_memory=True,
        messages="cpu:gloo,xpu:xccl",
    ),
    "mps": Kind(
        name="mps",
        count=_mps_count,
        native_bf16=lambda: False,
        bf16=False,
        # The fused kernel ignores dropout there, and misreads layouts (pytorch#184126, #181133).
        attention="eager",
        batch_tokens=1 << 14,
        pins_memory=False,
        messages="gloo",
    ),
    "cpu": Kind(
        name="cpu",
        count=lambda: 1,
        native_bf16=_cpu_has_bf16,
        bf16=True,
        # On a processor the fused kernel's backward pass takes a third of a training step.
        attention="eager",
        batch_tokens=1 << 10,
        pins_memory=False,
        messages="gloo",
    ),
}


def choose(wanted: str) -> Kind:
    """Return the kind that compute.device means here; `auto` is the fastest one.

    Raises:
        HostError: if there is none of that kind.
    """
    if wanted != "auto" and KINDS[wanted].count() == 0:
        here = ", ".join(name for name, kind in KINDS.items() if kind.count())
        raise HostError(
            f"compute.device: {wanted}: no {wanted.upper()} device here",
            f"set compute.device to auto (here: {here})",
        )
    return next(k for n, k in KINDS.items() if n == wanted or (wanted == "auto" and k.count()))
