"""The average of the weights: its formula, its place in a checkpoint, its effect."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from stages.core import paths
from stages.core.params import Params
from stages.training.averaging import FILE, WeightAverage
from tests.support.tiny import changed
from tests.training.test_trainer import state, train


class Layer(torch.nn.Linear):
    """A layer with one more parameter, which a file has before the weight."""

    def __init__(self) -> None:
        super().__init__(3, 2)
        self.another = torch.nn.Parameter(torch.randn(2, 3))


def model() -> Layer:
    torch.manual_seed(0)
    layer = Layer()
    layer.bias.requires_grad_(False)
    return layer


def walk(average: WeightAverage, layer: Layer, steps: range) -> list[torch.Tensor]:
    """Change the weight for some steps, and return its value at each."""
    weights = []
    for step in steps:
        with torch.no_grad():
            layer.weight += torch.full_like(layer.weight, float(step))
            layer.another.sub_(1)
        weights.append(layer.weight.detach().clone())
        average.on_step_end(None, SimpleNamespace(global_step=step), None)
    return weights


def test_the_average_is_exponential_and_follows_closely_at_first() -> None:
    layer = model()
    expected = layer.weight.detach().clone()
    average = WeightAverage(layer, 0.6)
    for step, weight in enumerate(walk(average, layer, range(1, 30)), start=1):
        decay = min(0.6, (1 + step) / (10 + step))
        expected = decay * expected + (1 - decay) * weight
    torch.testing.assert_close(average.average["weight"], expected)
    assert set(average.average) == {"weight", "another"}  # what does not train is not averaged


def test_the_weights_come_back_after_the_average_was_in_their_place() -> None:
    layer = model()
    average = WeightAverage(layer, 0.9)
    last = walk(average, layer, range(1, 4))[-1]
    with average.in_place():
        assert torch.equal(layer.weight, average.average["weight"])
        assert not torch.equal(layer.weight, last)
    assert torch.equal(layer.weight, last)


@pytest.mark.usefixtures("tmp_cwd")
def test_a_resumed_average_goes_on_as_if_it_had_not_stopped() -> None:
    whole, half = model(), model()
    through, first = WeightAverage(whole, 0.9), WeightAverage(half, 0.9)
    walk(through, whole, range(1, 9))
    walk(first, half, range(1, 5))
    folder = paths.CHECKPOINTS / "checkpoint-4"
    folder.mkdir(parents=True)
    first.on_save(None, SimpleNamespace(global_step=4), None)
    second = WeightAverage(half, 0.9)
    second.resume(folder)
    walk(second, half, range(5, 9))
    assert torch.equal(second.average["weight"], through.average["weight"])
    second.finish(folder)
    assert torch.equal(half.weight, load_file(folder / FILE)["weight"])


@pytest.mark.usefixtures("project")
def test_what_is_trained_is_the_average(params: Params) -> None:
    states: list[dict[str, Any]] = []
    for decay in (0.0, 0.9):
        settings = changed(params, train__ema_decay=decay, train__evaluations=1)
        classifier, history = train(changed(settings, train__epochs=1))
        assert len([entry for entry in history if "eval_loss" in entry]) == 1
        states.append(state(classifier))
        paths.CHECKPOINTS.rename(f"checkpoints-{decay}")
    name = next(name for name in states[0] if "lora_B" in name)
    assert not torch.equal(states[0][name], states[1][name])
    (checkpoint,) = Path("checkpoints-0.9").glob("checkpoint-*")
    raw = load_file(checkpoint / "adapter_model.safetensors")
    stored = name.replace(".default", "")
    assert torch.equal(raw[stored], states[0][name])  # the training itself is the same one
    assert torch.equal(load_file(checkpoint / FILE)[name], states[1][name])
