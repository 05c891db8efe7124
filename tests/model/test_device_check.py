"""A device is tried before the first step: the processor stands for one that errs."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import torch

from stages.core.errors import HostError
from stages.model import device
from stages.model.device import check_device

CPU = torch.device("cpu")


@pytest.fixture(autouse=True)
def _deterministic() -> Iterator[None]:
    torch.use_deterministic_algorithms(True)
    yield
    torch.use_deterministic_algorithms(True)


def on_the_device(monkeypatch: pytest.MonkeyPatch, change: Any) -> None:
    """Let the second step, that on the device, go through `change(loss and gradients)`."""
    own = device._loss_and_gradients
    calls: list[int] = []

    def twice(*arguments: Any) -> Any:
        calls.append(1)
        return own(*arguments) if len(calls) == 1 else change(lambda: own(*arguments), len(calls))

    monkeypatch.setattr(device, "_loss_and_gradients", twice)


@pytest.mark.parametrize("attention", ["eager", None])
def test_the_processor_agrees_with_itself_and_no_random_number_is_used_up(
    attention: str | None,
) -> None:
    torch.manual_seed(3)
    before = torch.get_rng_state()
    assert check_device(CPU, attention) == []
    assert torch.are_deterministic_algorithms_enabled()
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize("wrong", [0.01, float("nan")])
def test_a_device_that_computes_wrongly_is_refused_with_the_difference(
    monkeypatch: pytest.MonkeyPatch, wrong: float
) -> None:
    on_the_device(monkeypatch, lambda step, _: [step()[0] + wrong, *step()[1:]])
    with pytest.raises(HostError) as caught:
        check_device(CPU, "eager")
    message = str(caught.value)
    assert (
        f"compute.device: cpu: a step on it differs by {wrong:.2g} from the processor's" in message
    )
    assert "Fix: set compute.device to cpu" in message


def test_a_device_without_an_operator_is_refused_with_its_name(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def missing(*_: Any) -> None:
        raise NotImplementedError("The operator 'aten::gelu' is not implemented for the MPS device")

    on_the_device(monkeypatch, missing)
    with pytest.raises(HostError, match=r"a step on it fails: The operator 'aten::gelu' is not"):
        check_device(CPU, "eager")


def test_a_device_that_is_not_deterministic_is_used_and_that_is_said(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def strict(step: Any, call: int) -> Any:
        if call == 2:
            raise RuntimeError("aten::put_ does not have a deterministic implementation")
        return step()

    on_the_device(monkeypatch, strict)
    (note,) = check_device(CPU, None)
    assert "two trainings may differ" in note
    assert torch.is_deterministic_algorithms_warn_only_enabled()


@pytest.mark.parametrize("kept", [0.0, 1.0])
def test_a_device_whose_dropout_drops_nothing_is_refused(
    monkeypatch: pytest.MonkeyPatch, kept: float
) -> None:
    monkeypatch.setattr(device, "dropout", lambda ones, _: ones * kept)
    with pytest.raises(HostError, match=f"dropout of a half keeps {kept:.0%}"):
        check_device(CPU, "eager")
