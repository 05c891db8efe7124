"""Device, precision and threads: chosen for the machine at hand, or as params.yaml says."""

from __future__ import annotations

import ctypes
import os
import sys
from contextlib import AbstractContextManager
from dataclasses import dataclass

import torch

from stages.core.errors import HostError
from stages.core.params import ComputeParams

M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3  # of malloc.h


@dataclass(frozen=True)
class Compute:
    """What the work runs on: a device, the number type of the matrix products, threads."""

    device: torch.device
    bf16: bool

    def autocast(self) -> AbstractContextManager[None]:
        """Return the context in which matrix products use the chosen precision."""
        return torch.autocast(self.device.type, dtype=torch.bfloat16, enabled=self.bf16)


def set_up(params: ComputeParams) -> Compute:
    """Resolve `auto`, pin the thread count, and make torch deterministic.

    Raises:
        HostError: if CUDA is asked for and there is none.
    """
    torch.set_num_threads(int(os.environ["OMP_NUM_THREADS"]))
    _keep_freed_memory()
    torch.use_deterministic_algorithms(True)
    # Filling every new tensor is for finding bugs: nothing reads what was not written.
    torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]  # a property of the module
    return chosen(params)


def chosen(params: ComputeParams) -> Compute:
    """Return device and precision for the machine at hand.

    Raises:
        HostError: if CUDA is asked for and there is none.
    """
    if params.device == "cuda" and not torch.cuda.is_available():
        raise HostError("compute.device: cuda: no CUDA device here", "set compute.device to auto")
    use_cuda = params.device != "cpu" and torch.cuda.is_available()
    device = torch.device("cuda" if use_cuda else "cpu")
    bf16 = computes_bf16(device) if params.precision == "auto" else params.precision == "bf16"
    return Compute(device, bf16)


def _keep_freed_memory() -> None:
    """Tell glibc to use freed memory again: each step would get its pages anew from the system."""
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None) if sys.platform == "linux" else None
    if mallopt is not None:
        mallopt(M_MMAP_THRESHOLD, 1 << 30)
        mallopt(M_TRIM_THRESHOLD, (1 << 31) - 1)


def computes_bf16(device: torch.device) -> bool:
    """Return whether the device multiplies bf16 matrices in hardware, so that it pays."""
    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    features = torch.cpu.get_capabilities()
    return any(features.get(name, False) for name in ("avx512_bf16", "amx_bf16", "bf16"))
