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


NONE, OLD, FOUR, MAC, INTEL = list(HERE)[:5]


@pytest.mark.parametrize(
    ("machine", "device", "found", "attention"),
    [
        (NONE, "auto", "cpu", "eager"),
        (OLD, "auto", "cuda", None),
        (MAC, "auto", "mps", "eager"),
        (INTEL, "auto", "xpu", None),
        ("all", "auto", "cuda", None),
        *(
            ("all", name, name, None if name == "xpu" else "eager")
            for name in ("xpu", "mps", "cpu")
        ),
        (FOUR, "cpu", "cpu", "eager"),
    ],
)
def test_auto_is_the_fastest_device_here_and_a_name_is_taken(
    monkeypatch: pytest.MonkeyPatch, machine: str, device: str, found: str, attention: str | None
) -> None:
    fake(monkeypatch, machine)
    chosen = resolve(wanted(device=device))
    assert chosen.torch_device == torch.device(found)
    assert chosen.is_cpu == (found == "cpu")
    # The kernel goes with the device that is used, not with the one that is there.
    assert chosen.kind.attention == attention
    assert chosen.kind.pins_memory == (found in ("cuda", "xpu"))
    facts = {"device": found, "precision": "fp32", "threads": "1", "processes": "1"}
    assert chosen.facts() == facts


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
        *((NONE, {name: True, "avx2": False}, "auto", "bf16") for name in ("avx512_bf16", "bf16")),
        (NONE, {"amx_bf16": True}, "auto", "bf16"),
        (NONE, {"avx512_bf16": False, "avx2": True}, "auto", "fp32"),
        (NONE, {}, "auto", "fp32"),
        (OLD, False, "auto", "fp32"),
        (OLD, True, "auto", "bf16"),
        (OLD, False, "bf16", "bf16"),
        (INTEL, True, "auto", "bf16"),
        (MAC, True, "auto", "fp32"),
        (MAC, True, "fp32", "fp32"),
    ],
)
def test_precision_fits_the_device(
    monkeypatch: pytest.MonkeyPatch, machine: str, units: Any, precision: str, taken: str
) -> None:
    fake(monkeypatch, machine, bool(units))
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: units)
    assert resolve(wanted(device="auto", precision=precision)).precision == taken


@pytest.mark.parametrize(
    ("machine", "device", "processes", "count"),
    [
        (NONE, "auto", "auto", 1),
        (NONE, "auto", 4, 4),
        (FOUR, "auto", "auto", 4),
        (FOUR, "auto", 2, 2),
        (FOUR, "cpu", "auto", 1),
        (INTEL, "auto", "auto", 2),
        (MAC, "auto", "auto", 1),
        (INTEL, "auto", 4, "2 xpu devices"),
        (MAC, "auto", 2, "1 mps device"),
    ],
)
def test_a_stage_has_a_process_for_each_gpu_or_as_many_as_are_asked_for_and_fit(
    monkeypatch: pytest.MonkeyPatch,
    params: Params,
    machine: str,
    device: str,
    processes: Any,
    count: Any,
) -> None:
    fake(monkeypatch, machine)
    asked = changed(params, compute__device=device, compute__processes=processes)
    if isinstance(count, int):
        assert processes_of(asked) == count
        return
    with pytest.raises(HostError) as caught:
        processes_of(asked)
    message = str(caught.value)
    assert f"compute.processes: {processes} processes on this machine, {count} here." in message
    assert f"set compute.processes to {count[0]}, or compute.device to cpu" in message
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
