"""What the work runs on: device, precision, threads, attention kernel and batch size in one object.

Nothing else in the project asks torch which devices there are, or decides by a device's name.
"""

import ctypes
import sys
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, dropout, scaled_dot_product_attention

from stages.core.errors import HostError, ParamsError, printable
from stages.core.params import ComputeParams, Params
from stages.running.processes import join
from stages.running.run import World, threads_of, world


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


ROWS, TOKENS, WIDTH, HEADS, CLASSES = 4, 16, 128, 2, 3  # heads of width 64, as in BERT
VOCABULARY = 50
TOLERANCE = 1e-3  # of float32 sums in another order; a wrong kernel is off by far more
OTHERWISE = "set compute.device to cpu, or install another version of torch"


class _Step(nn.Module):
    """What an encoder computes, once: embedding, attention, feed-forward, norms, head."""

    def __init__(self, fused: bool) -> None:
        super().__init__()
        self.fused = fused
        self.tokens = nn.Embedding(VOCABULARY, WIDTH)
        self.projections = nn.ModuleList(nn.Linear(WIDTH, WIDTH) for _ in range(3))
        self.up, self.down = nn.Linear(WIDTH, 2 * WIDTH), nn.Linear(2 * WIDTH, WIDTH)
        self.norms = nn.ModuleList(nn.LayerNorm(WIDTH) for _ in range(2))
        self.head = nn.Linear(WIDTH, CLASSES)

    def forward(self, ids: Tensor, mask: Tensor) -> Tensor:
        states = self.tokens(ids)
        query, key, value = (
            layer(states).view(ROWS, TOKENS, HEADS, -1).transpose(1, 2)
            for layer in self.projections
        )
        allowed = mask[:, None, None, :]
        if self.fused:
            read = scaled_dot_product_attention(query, key, value, attn_mask=allowed)
        else:
            weights = query @ key.transpose(2, 3) / query.shape[-1] ** 0.5
            read = weights.masked_fill(~allowed, -1e9).softmax(-1) @ value
        states = self.norms[0](states + read.transpose(1, 2).reshape(states.shape))
        states = self.norms[1](states + self.down(nn.functional.gelu(self.up(states))))
        logits: Tensor = self.head(states[:, 0])
        return logits


def check_device(device: torch.device, attention: str | None) -> list[str]:
    """Return what the device cannot do but training can do without, as lines for the user.

    The processor's random numbers are as before afterwards.

    Args:
        device: what is tried.
        attention: the kernel that will be used, as `Device.attention`.

    Raises:
        HostError: if it lacks an operator, or its values differ from the processor's.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return _check(device, fused=attention is None)


def _check(device: torch.device, fused: bool) -> list[str]:
    notes = []
    step = _Step(fused)
    ids = torch.randint(VOCABULARY, (ROWS, TOKENS))
    mask = torch.arange(TOKENS) < torch.tensor([[TOKENS], [9], [5], [2]])
    expected = _loss_and_gradients(step, ids, mask)
    try:
        try:
            got = _loss_and_gradients(step.to(device), ids.to(device), mask.to(device))
        except RuntimeError as error:
            if "determinis" not in str(error):
                raise
            torch.use_deterministic_algorithms(True, warn_only=True)
            notes.append(
                f"{device.type} has an operator that is not deterministic, so two trainings may "
                "differ in their last digits"
            )
            got = _loss_and_gradients(step, ids.to(device), mask.to(device))
        kept = float((dropout(torch.ones(1 << 12, device=device), 0.5) > 0).double().mean())
    except (RuntimeError, AssertionError) as error:  # NotImplementedError is one
        raise HostError(
            f"compute.device: {device.type}: a step on it fails: {printable(error, 200)}", OTHERWISE
        ) from error
    worst = max(float((a - b).abs().max()) for a, b in zip(expected, got, strict=True))
    if not worst <= TOLERANCE:  # NaN too
        raise HostError(
            f"compute.device: {device.type}: a step on it differs by {worst:.2g} from the "
            f"processor's, more than {TOLERANCE:g}",
            OTHERWISE,
        )
    if not 0.4 < kept < 0.6:
        raise HostError(
            f"compute.device: {device.type}: dropout of a half keeps {kept:.0%}", OTHERWISE
        )
    return notes


def _loss_and_gradients(step: _Step, ids: Tensor, mask: Tensor) -> list[Tensor]:
    """Return the loss and the gradient of each weight, on the CPU."""
    step.zero_grad()
    labels = torch.tensor([0, 1, 2, 0], device=ids.device)
    loss = cross_entropy(step(ids, mask), labels)
    loss.backward()  # type: ignore[no-untyped-call]  # torch left it untyped
    gradients = [p.grad for p in step.parameters() if p.grad is not None]
    return [t.detach().cpu().clone() for t in (loss, *gradients)]


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


def processes_of(params: Params) -> int:
    """Return how many processes the params mean on this machine: `auto` is one for each GPU.

    Raises:
        HostError: if the device is not here, or has to be shared.
        ParamsError: if a batch cannot be divided.
    """
    compute = params.compute
    if compute.processes == 1:  # torch is not imported for that
        return 1

    kind = choose(compute.device)
    count = kind.count() if compute.processes == "auto" else compute.processes
    kind.require(count)
    share_of(params.train.batch_size, count)
    return count


def share_of(batch_size: int, processes: int) -> int:
    """Return the rows of a batch that each process takes.

    Raises:
        ParamsError: if they are not a whole number.
    """
    if batch_size % processes:
        raise ParamsError(
            f"params.yaml: train.batch_size: {batch_size} rows cannot be divided over "
            f"{processes} processes",
            f"set train.batch_size to a multiple of {processes}, for example "
            f"{-(-batch_size // processes) * processes}",
        )
    return batch_size // processes
