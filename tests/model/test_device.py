"""Device, precision and threads, and the trial before the first step. Absent devices are faked."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import torch

from stages.core.errors import HostError
from stages.core.params import ComputeParams, Params
from stages.model import device
from stages.model.device import check_device, processes_of, resolve, set_up
from stages.running.run import World
from tests.support.tiny import COMPUTE, changed

HERE: dict[str, dict[str, int]] = {
    "nothing but a processor": {},
    "an old GPU": {"cuda": 1},
    "four GPUs": {"cuda": 4},
    "a Mac": {"mps": 1},
    "two of Intel's": {"xpu": 2},
    "all": {"cuda": 2, "xpu": 1, "mps": 1},
}


@pytest.fixture(autouse=True)
def _restored() -> Iterator[None]:
    yield
    torch.set_num_threads(1)
    torch.use_deterministic_algorithms(True)


def wanted(**changes: Any) -> ComputeParams:
    return COMPUTE.model_copy(update=changes)


def fake(monkeypatch: pytest.MonkeyPatch, machine: str, bf16: bool = False) -> None:
    """Let torch report the devices of a machine."""
    counts = HERE[machine]
    for name in ("cuda", "xpu"):
        of_torch = getattr(torch, name)
        monkeypatch.setattr(of_torch, "is_available", lambda name=name: name in counts)
        monkeypatch.setattr(of_torch, "device_count", lambda name=name: counts.get(name, 0))
        monkeypatch.setattr(of_torch, "is_bf16_supported", lambda **_: bf16)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: "mps" in counts)


def share_with(monkeypatch: pytest.MonkeyPatch, rank: int, size: int, local_size: int) -> None:
    """Let this process be one of several."""
    place = World(rank, size, rank % local_size, local_size)
    monkeypatch.setattr(device, "world", lambda: place)


def test_torch_is_deterministic_and_has_the_threads_of_the_params() -> None:
    torch.use_deterministic_algorithms(False)
    assert set_up(wanted(threads=2)).threads == torch.get_num_threads() == 2
    assert torch.are_deterministic_algorithms_enabled()


@pytest.mark.parametrize(("threads", "processes", "own"), [(8, 4, 2), (7, 2, 3), (1, 4, 1)])
def test_processes_on_one_machine_divide_its_threads(
    monkeypatch: pytest.MonkeyPatch, threads: int, processes: int, own: int
) -> None:
    share_with(monkeypatch, 0, 2 * processes, processes)
    device = resolve(wanted(threads=threads))
    assert (device.threads, device.processes) == (own, 2 * processes)


@pytest.mark.parametrize(
    ("capabilities", "bf16"),
    [
        *(({name: True, "avx2": False}, True) for name in ("avx512_bf16", "amx_bf16", "bf16")),
        ({"avx512_bf16": False, "avx2": True}, False),
        ({}, False),
    ],
)
def test_auto_takes_bf16_where_the_processor_computes_in_it(
    monkeypatch: pytest.MonkeyPatch, capabilities: dict[str, bool], bf16: bool
) -> None:
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: capabilities)
    assert resolve(wanted(precision="auto")).bf16 == bf16


@pytest.mark.parametrize(
    ("machine", "device", "found"),
    [
        ("nothing but a processor", "auto", "cpu"),
        ("an old GPU", "auto", "cuda"),
        ("a Mac", "auto", "mps"),
        ("two of Intel's", "auto", "xpu"),
        ("all", "auto", "cuda"),
        ("all", "xpu", "xpu"),
        ("all", "mps", "mps"),
        ("all", "cpu", "cpu"),
        ("four GPUs", "cpu", "cpu"),
        ("four GPUs", "cuda", "cuda"),
    ],
)
def test_auto_is_the_fastest_device_here_and_a_name_is_taken(
    monkeypatch: pytest.MonkeyPatch, machine: str, device: str, found: str
) -> None:
    fake(monkeypatch, machine)
    chosen = resolve(wanted(device=device))
    assert chosen.torch_device == torch.device(found)
    assert chosen.is_cpu == (found == "cpu")
    # The kernel goes with the device that is used, not with the one that is there.
    assert chosen.kind.attention == ("eager" if found in ("cpu", "mps") else None)
    assert chosen.kind.pins_memory == (found in ("cuda", "xpu"))
    assert chosen.facts() == {
        "device": found,
        "precision": "fp32",
        "threads": "1",
        "processes": "1",
    }


@pytest.mark.parametrize(
    ("machine", "asked", "message"),
    [
        ("nothing but a processor", {"device": "cuda"}, "no CUDA device here. Fix: {} (here: cpu)"),
        ("an old GPU", {"device": "mps"}, "no MPS device here. Fix: {} (here: cuda, cpu)"),
        ("a Mac", {"device": "cuda"}, "no CUDA device here. Fix: {} (here: mps, cpu)"),
        ("a Mac", {"device": "xpu"}, "no XPU device here. Fix: {} (here: mps, cpu)"),
        ("a Mac", {"device": "auto", "precision": "bf16"}, "not reliable on mps. Fix: {}"),
    ],
)
def test_what_is_not_here_or_cannot_be_trusted_is_refused(
    monkeypatch: pytest.MonkeyPatch, machine: str, asked: dict[str, str], message: str
) -> None:
    fake(monkeypatch, machine)
    with pytest.raises(HostError) as caught:
        set_up(wanted(**asked))
    name, value = list(asked.items())[-1]
    fix = f"set compute.{name} to auto"
    assert str(caught.value) == f"error: compute.{name}: {value}: {message.format(fix)}"
    assert caught.value.exit_code == 5


@pytest.mark.parametrize(
    ("machine", "units", "precision", "taken"),
    [
        ("an old GPU", False, "auto", "fp32"),
        ("an old GPU", True, "auto", "bf16"),
        ("an old GPU", False, "bf16", "bf16"),
        ("two of Intel's", True, "auto", "bf16"),
        ("a Mac", True, "auto", "fp32"),
        ("a Mac", True, "fp32", "fp32"),
    ],
)
def test_precision_fits_the_device(
    monkeypatch: pytest.MonkeyPatch, machine: str, units: bool, precision: str, taken: str
) -> None:
    fake(monkeypatch, machine, units)
    assert resolve(wanted(device="auto", precision=precision)).precision == taken


@pytest.mark.parametrize(
    ("machine", "device", "processes", "count"),
    [
        ("nothing but a processor", "auto", "auto", 1),
        ("nothing but a processor", "auto", 4, 4),
        ("four GPUs", "auto", "auto", 4),
        ("four GPUs", "auto", 2, 2),
        ("four GPUs", "cpu", "auto", 1),
        ("two of Intel's", "auto", "auto", 2),
        ("a Mac", "auto", "auto", 1),
        ("four GPUs", "auto", 1, 1),
    ],
)
def test_a_stage_has_a_process_for_each_gpu_or_as_many_as_are_asked_for(
    monkeypatch: pytest.MonkeyPatch,
    params: Params,
    machine: str,
    device: str,
    processes: Any,
    count: int,
) -> None:
    fake(monkeypatch, machine)
    asked = changed(params, compute__device=device, compute__processes=processes)
    assert processes_of(asked) == count


@pytest.mark.parametrize(
    ("machine", "processes", "here"),
    [("two of Intel's", 4, "2 xpu devices"), ("a Mac", 2, "1 mps device")],
)
def test_more_processes_than_devices_are_refused(
    monkeypatch: pytest.MonkeyPatch, params: Params, machine: str, processes: int, here: str
) -> None:
    fake(monkeypatch, machine)
    asked = changed(params, compute__device="auto", compute__processes=processes)
    with pytest.raises(HostError) as caught:
        processes_of(asked)
    message = str(caught.value)
    assert f"compute.processes: {processes} processes on this machine, {here} here." in message
    assert f"set compute.processes to {here[0]}, or compute.device to cpu" in message
    share_with(monkeypatch, 0, processes, processes)  # as another launcher would start them
    with pytest.raises(HostError, match=r"compute\.processes"):
        resolve(wanted(device="auto"))


def test_each_process_has_a_gpu_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    fake(monkeypatch, "four GPUs")
    found = []
    for rank in range(8):  # on two machines
        share_with(monkeypatch, rank, 8, 4)
        found.append(str(resolve(wanted(device="auto")).torch_device))
    assert found == [f"cuda:{number}" for number in (0, 1, 2, 3, 0, 1, 2, 3)]
    share_with(monkeypatch, 1, 2, 2)
    assert resolve(wanted(device="cpu")).torch_device == torch.device("cpu")


@pytest.mark.parametrize(("bf16", "dtype"), [(True, torch.bfloat16), (False, torch.float32)])
def test_matrix_products_use_the_precision(bf16: bool, dtype: torch.dtype) -> None:
    ones = torch.ones(2, 2)
    with resolve(wanted(precision="bf16" if bf16 else "fp32")).autocast():
        assert (ones @ ones).dtype == dtype
    assert (ones @ ones).dtype == torch.float32


CPU = torch.device("cpu")


def fail(error: Exception) -> Any:
    def step(*_: Any) -> None:
        raise error

    return step


def on_the_device(monkeypatch: pytest.MonkeyPatch, *steps: Any) -> None:
    """Let the steps on the device, after that on the processor, be these; None is the real one."""
    own = device._loss_and_gradients
    todo = [None, *steps]
    monkeypatch.setattr(device, "_loss_and_gradients", lambda *given: (todo.pop(0) or own)(*given))


@pytest.mark.parametrize("attention", ["eager", None])
def test_the_processor_agrees_with_itself_and_no_random_number_is_used_up(
    attention: str | None,
) -> None:
    torch.manual_seed(3)
    before = torch.get_rng_state()
    assert check_device(CPU, attention) is None
    assert torch.are_deterministic_algorithms_enabled()
    assert torch.equal(torch.get_rng_state(), before)


MISSING = "The operator 'aten::gelu' is not implemented for the MPS device"


@pytest.mark.parametrize(
    ("wrong", "kept", "message"),
    [
        (0.01, 0.5, "differs by 0.01 from the processor's"),
        (float("nan"), 0.5, "differs by nan from the processor's"),
        (fail(NotImplementedError(MISSING)), 0.5, f"fails: {MISSING}"),
        (0.0, 0.0, "keeps 0% under a dropout of a half"),
        (0.0, 1.0, "keeps 100% under a dropout of a half"),
    ],
)
def test_a_device_that_errs_is_refused(
    monkeypatch: pytest.MonkeyPatch, wrong: Any, kept: float, message: str
) -> None:
    own = device._loss_and_gradients
    step = wrong if callable(wrong) else lambda *given: [t + wrong for t in own(*given)]
    on_the_device(monkeypatch, step)
    monkeypatch.setattr(
        device, "dropout", lambda ones, _: ones * (torch.linspace(0, 1, len(ones)) < kept)
    )
    with pytest.raises(HostError) as caught:
        check_device(CPU, "eager")
    assert f"compute.device: cpu: a step on it {message}" in str(caught.value)
    assert "Fix: set compute.device to cpu" in str(caught.value)


def test_a_device_that_is_not_deterministic_is_used_and_that_is_said(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    strict = fail(RuntimeError("aten::put_ does not have a deterministic implementation"))
    on_the_device(monkeypatch, strict, None)
    assert "two trainings may differ" in str(check_device(CPU, None))
    assert torch.is_deterministic_algorithms_warn_only_enabled()
