"""What the work runs on: device, precision, threads, attention kernel and batch size in one object.

Nothing else in the project asks torch which devices there are, or decides by a device's name.
"""

from __future__ import annotations

import ctypes
import sys
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Literal

import torch

from stages.core.errors import HostError
from stages.core.params import ComputeParams
from stages.running.environment import threads_of

M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3  # constants of glibc's malloc.h
Precision = Literal["bf16", "fp32"]


@dataclass(frozen=True)
class Device:
    """The device at hand and how it is used.

    Attributes:
        torch_device: where tensors are kept.
        precision: number type of the matrix products.
        threads: processor threads that torch uses.
        attention: name of the attention kernel for Transformers; None leaves the choice to it.
        batch_tokens: padded tokens in one batch of scoring, enough to keep the device busy.
        native_bf16: whether the device multiplies bf16 matrices in hardware.
    """

    torch_device: torch.device
    precision: Precision
    threads: int
    attention: str | None
    batch_tokens: int
    native_bf16: bool

    @property
    def bf16(self) -> bool:
        """Whether matrix products are computed in bfloat16."""
        return self.precision == "bf16"

    @property
    def is_cpu(self) -> bool:
        """Whether the device is the processor itself."""
        return self.torch_device.type == "cpu"

    @property
    def packs_bf16(self) -> bool:
        """Whether the processor has kernels that read packed bf16 weights."""
        return self.is_cpu and torch.cpu.get_capabilities().get("avx512_bf16", False)

    def autocast(self) -> AbstractContextManager[None]:
        """Return the context in which matrix products use the chosen precision."""
        return torch.autocast(self.torch_device.type, dtype=torch.bfloat16, enabled=self.bf16)

    def facts(self) -> dict[str, str]:
        """Return device, precision and threads as words, for the provenance of a result."""
        return {
            "device": self.torch_device.type,
            "precision": self.precision,
            "threads": str(self.threads),
        }


def set_up(params: ComputeParams) -> Device:
    """Return the device, with torch's thread count set and torch made deterministic.

    Raises:
        HostError: if CUDA is requested and not available.
    """
    device = resolve(params)
    torch.set_num_threads(device.threads)
    _reuse_freed_memory()
    torch.use_deterministic_algorithms(True)
    # Filling every new tensor helps to find reads of uninitialised memory; there are none here.
    torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]  # a property of the module
    return device


def resolve(params: ComputeParams) -> Device:
    """Return the device that the params mean on this machine; `auto` is resolved.

    Raises:
        HostError: if CUDA is requested and not available.
    """
    has_cuda = torch.cuda.is_available()
    if params.device == "cuda" and not has_cuda:
        raise HostError("compute.device: cuda: no CUDA device here", "set compute.device to auto")
    use_cuda = has_cuda and params.device != "cpu"
    native = _cuda_has_bf16() if use_cuda else _cpu_has_bf16()
    return Device(
        torch_device=torch.device("cuda" if use_cuda else "cpu"),
        precision=("bf16" if native else "fp32")
        if params.precision == "auto"
        else params.precision,
        threads=threads_of(params),
        # On a processor the fused kernel's backward pass takes a third of a training step.
        attention=None if use_cuda else "eager",
        batch_tokens=1 << 16 if use_cuda else 1 << 10,
        native_bf16=native,
    )


def _cuda_has_bf16() -> bool:
    return bool(torch.cuda.is_bf16_supported(including_emulation=False))


def _cpu_has_bf16() -> bool:
    features = torch.cpu.get_capabilities()
    return any(features.get(name, False) for name in ("avx512_bf16", "amx_bf16", "bf16"))


def _reuse_freed_memory() -> None:
    """Tell glibc to keep freed memory: otherwise each step would request its pages again."""
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None) if sys.platform == "linux" else None
    if mallopt is not None:
        mallopt(M_MMAP_THRESHOLD, 1 << 30)
        mallopt(M_TRIM_THRESHOLD, (1 << 31) - 1)
