"""A device is tried before the first step: the processor stands for one that errs."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from stages.core.errors import HostError
from stages.model import device
from stages.model.device import check_device

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
    try:
        assert "two trainings may differ" in str(check_device(CPU, None))
        assert torch.is_deterministic_algorithms_warn_only_enabled()
    finally:
        torch.use_deterministic_algorithms(True)
