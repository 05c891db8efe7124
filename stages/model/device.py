"""What the work runs on: device, precision, threads, attention kernel and batch size in one object.

Nothing else in the project asks torch which devices there are, or decides by a device's name.
"""

import ctypes
import sys
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn.functional import dropout
from transformers import BertConfig, BertForSequenceClassification

from stages.core.errors import HostError, ParamsError, printable
from stages.core.params import ComputeParams, Params
from stages.running.processes import join
from stages.running.run import threads_of, world


@dataclass(frozen=True)
class Kind:
    """A kind of device, and how it is used.

    Attributes:
        name: PyTorch's, and that of compute.device.
        count: how many are here.
        native_bf16: whether the one here multiplies bf16 matrices in hardware.
        messages: PyTorch's backend for what several processes say to one another.
        bf16: whether bf16 can be used at all.
        attention: name of the attention kernel for Transformers; None leaves the choice to it.
        batch_tokens: padded tokens in one batch of scoring, enough to keep it busy.
        pins_memory: whether batches are prepared in memory that the device copies from directly.
    """

    name: str
    count: Callable[[], int]
    native_bf16: Callable[[], bool]
    messages: str
    bf16: bool = True
    attention: str | None = None
    batch_tokens: int = 1 << 16
    pins_memory: bool = True

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


def _cpu_has_bf16() -> bool:
    features = torch.cpu.get_capabilities()
    return any(features.get(name, False) for name in ("avx512_bf16", "amx_bf16", "bf16"))


KINDS = {
    "cuda": Kind(
        name="cuda",
        count=lambda: torch.cuda.device_count(),
        native_bf16=lambda: torch.cuda.is_bf16_supported(including_emulation=False),
        messages="cpu:gloo,cuda:nccl",
    ),
    "xpu": Kind(
        name="xpu",
        count=lambda: torch.xpu.device_count(),
        native_bf16=lambda: torch.xpu.is_bf16_supported(including_emulation=False),
        messages="cpu:gloo,xpu:xccl",
    ),
    "mps": Kind(
        name="mps",
        count=lambda: int(torch.backends.mps.is_available()),
        native_bf16=lambda: False,
        messages="gloo",
        bf16=False,
        # The fused kernel ignores dropout there, and misreads layouts (pytorch#184126, #181133).
        attention="eager",
        batch_tokens=1 << 14,
        pins_memory=False,
    ),
    "cpu": Kind(
        name="cpu",
        count=lambda: 1,
        native_bf16=_cpu_has_bf16,
        messages="gloo",
        # On a processor the fused kernel's backward pass takes a third of a training step.
        attention="eager",
        batch_tokens=1 << 10,
        pins_memory=False,
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


TOLERANCE = 1e-3  # of float32 sums in another order; a wrong kernel is off by far more
TINY = BertConfig(
    vocab_size=50,
    hidden_size=128,
    intermediate_size=256,
    num_hidden_layers=1,
    num_attention_heads=2,  # of width 64, as in BERT
    hidden_dropout_prob=0.0,
    attention_probs_dropout_prob=0.0,
)


@torch.random.fork_rng(devices=[])
def check_device(device: torch.device, attention: str | None) -> str | None:
    """Return what the device cannot do but training can do without, in words for the user.

    The processor's random numbers are as before afterwards.

    Args:
        device: what is tried.
        attention: the kernel that will be used, as `Kind.attention`.

    Raises:
        HostError: if it lacks an operator, or its values differ from the processor's.
    """
    torch.manual_seed(0)
    made: Any = BertForSequenceClassification
    step: nn.Module = made._from_config(TINY, attn_implementation=attention)
    ids = torch.randint(TINY.vocab_size, (4, 16))
    mask = torch.arange(16) < torch.tensor([[16], [9], [5], [2]])
    expected = _loss_and_gradients(step, ids, mask)
    note = fault = None
    try:
        try:
            got = _loss_and_gradients(step.to(device), ids.to(device), mask.to(device))
        except RuntimeError as error:
            if "determinis" not in str(error):
                raise
            torch.use_deterministic_algorithms(True, warn_only=True)
            note = (
                f"{device.type} has an operator that is not deterministic, so two trainings may "
                "differ in their last digits"
            )
            got = _loss_and_gradients(step, ids.to(device), mask.to(device))
        kept = float((dropout(torch.ones(1 << 12, device=device), 0.5) > 0).double().mean())
        worst = max(float((a - b).abs().max()) for a, b in zip(expected, got, strict=True))
        if not worst <= TOLERANCE:  # NaN too
            fault = f"differs by {worst:.2g} from the processor's, more than {TOLERANCE:g}"
        elif not 0.4 < kept < 0.6:
            fault = f"keeps {kept:.0%} under a dropout of a half"
    except (RuntimeError, AssertionError) as error:  # NotImplementedError is one
        fault = f"fails: {printable(error, 200)}"
    if fault:
        raise HostError(
            f"compute.device: {device.type}: a step on it {fault}",
            "set compute.device to cpu, or install another version of torch",
        )
    return note


def _loss_and_gradients(step: nn.Module, ids: Tensor, mask: Tensor) -> list[Tensor]:
    """Return the loss and the gradient of each weight, on the CPU."""
    step.zero_grad()
    labels = torch.tensor([0, 1, 1, 0], device=ids.device)
    loss = step(input_ids=ids, attention_mask=mask, labels=labels).loss
    loss.backward()
    gradients = [p.grad for p in step.parameters() if p.grad is not None]
    return [t.detach().cpu().clone() for t in (loss, *gradients)]


M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3  # constants of glibc's malloc.h
Precision = Literal["bf16", "fp32"]


@dataclass(frozen=True)
class Device:
    """The device at hand and how it is used.

    Attributes:
        kind: of device.
        torch_device: where tensors are kept.
        precision: number type of the matrix products.
        threads: processor threads that torch uses.
        processes: how many processes share the work.
    """

    kind: Kind
    torch_device: torch.device
    precision: Precision
    threads: int
    processes: int = 1

    @property
    def bf16(self) -> bool:
        """Whether matrix products are computed in bfloat16."""
        return self.precision == "bf16"

    @property
    def is_cpu(self) -> bool:
        """Whether the device is the processor itself."""
        return self.kind.name == "cpu"

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
    torch.set_num_threads(device.threads)
    _reuse_freed_memory()
    if device.torch_device.index is not None:
        torch.get_device_module(device.torch_device).set_device(device.torch_device.index)
    torch.use_deterministic_algorithms(True)
    # Filling every new tensor helps to find reads of uninitialised memory; there are none here.
    torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]  # a property of the module
    if not device.is_cpu:  # the processor is what others are compared with
        note = check_device(device.torch_device, device.kind.attention)
        if note and world().leads:
            print(f"warning: {note}", file=sys.stderr)
    join(device.kind.messages)
    return device


def resolve(params: ComputeParams) -> Device:
    """Return the device that the params mean on this machine; `auto` is resolved.

    Raises:
        HostError: if the device or the precision is requested and not available, or the machine
            has fewer devices than processes.
    """
    place = world()
    kind = choose(params.device)
    if params.precision == "bf16" and not kind.bf16:
        raise HostError(
            f"compute.precision: bf16: not reliable on {kind.name}", "set compute.precision to auto"
        )
    own = torch.device(kind.name)
    if place.size > 1 and kind.name != "cpu":  # each process on a machine has one of its own
        kind.require(place.local_size)
        own = torch.device(kind.name, place.local_rank)
    fastest: Precision = "bf16" if kind.native_bf16() else "fp32"
    return Device(
        kind=kind,
        torch_device=own,
        precision=fastest if params.precision == "auto" else params.precision,
        threads=threads_of(params, place.local_size),
        processes=place.size,
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
