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
from stages.model.device_check import check_device
from stages.model.device_kinds import KINDS, Kind, choose
from stages.running.processes import join
from stages.running.run import World, threads_of, world

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
        pins_memory: whether batches are prepared in memory that the device copies from directly.
        processes: how many processes share the work.
    """

    torch_device: torch.device
    precision: Precision
    threads: int
    attention: str | None
    batch_tokens: int
    native_bf16: bool
    pins_memory: bool = False
    processes: int = 1

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
        """Return device, precision, threads and processes as words, for a result's provenance."""
        return {
            "device": self.torch_device.type,
            "precision": self.precision,
            "threads": str(self.threads),
            "processes": str(self.processes),
        }


def set_up(params: ComputeParams) -> Device:
    """Return the device, ready for use: checked, deterministic, with torch's thread count set.

    In one of several processes it also connects with the others. What the device cannot do is
    said on stderr.

    Raises:
        HostError: if the device is not here or computes wrongly, or the others do not join.
    """
    device = resolve(params)
    place = world()
    torch.set_num_threads(device.threads)
    _reuse_freed_memory()
    if device.torch_device.index is not None:
        torch.get_device_module(device.torch_device).set_device(device.torch_device.index)
    notes = [_emulation(device)] if device.bf16 and not device.native_bf16 else []
    torch.use_deterministic_algorithms(True)
    # Filling every new tensor helps to find reads of uninitialised memory; there are none here.
    torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]  # a property of the module
    if not device.is_cpu:  # the processor is what others are compared with
        notes += check_device(device.torch_device, device.attention)
    for note in notes if place.leads else []:
        print(f"warning: {note}", file=sys.stderr)
    join(KINDS[device.torch_device.type].messages)
    return device


def resolve(params: ComputeParams) -> Device:
    """Return the device that the params mean on this machine; `auto` is resolved.

    Raises:
        HostError: if the device or the precision is requested and not available.
    """
    place = world()
    kind = choose(params.device)
    native = kind.native_bf16()
    if params.precision == "bf16" and not kind.bf16:
        raise HostError(
            f"compute.precision: bf16: not reliable on {kind.name}", "set compute.precision to auto"
        )
    return Device(
        torch_device=_own_device(kind, place),
        precision=("bf16" if native else "fp32")
        if params.precision == "auto"
        else params.precision,
        threads=threads_of(params, place.local_size),
        attention=kind.attention,
        batch_tokens=kind.batch_tokens,
        native_bf16=native,
        pins_memory=kind.pins_memory,
        processes=place.size,
    )


def _own_device(kind: Kind, place: World) -> torch.device:
    """Return the device of this process: each process on a machine has one of its own.

    Raises:
        HostError: if the machine has too few.
    """
    if place.size == 1 or kind.name == "cpu":
        return torch.device(kind.name)
    kind.require(place.local_size)
    return torch.device(kind.name, place.local_rank)


def _emulation(device: Device) -> str:
    return (
        f"compute.precision: bf16: this {device.torch_device.type} has no bf16 units, so it is "
        "slower than fp32 here"
    )


def _reuse_freed_memory() -> None:
    """Tell glibc to keep freed memory: otherwise each step would request its pages again."""
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None) if sys.platform == "linux" else None
    if mallopt is not None:
        mallopt(M_MMAP_THRESHOLD, 1 << 30)
        mallopt(M_TRIM_THRESHOLD, (1 << 31) - 1)
