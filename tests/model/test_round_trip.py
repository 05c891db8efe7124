"""Before the first step: an adapter that could not be loaded is not trained, and nothing moves."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from stages.core import paths
from stages.core.errors import ParamsError
from stages.core.params import Params
from stages.model import methods
from stages.model.classifier import Classifier
from stages.model.lora import attach_lora
from stages.model.methods import method_of
from stages.model.saved import check_round_trip
from stages.train_lora import train_lora
from tests.support.adapters import logits
from tests.support.tiny import changed


def state(classifier: Classifier) -> dict[str, Tensor]:
    return {name: tensor.clone() for name, tensor in classifier.model.state_dict().items()}


@pytest.mark.parametrize(
    "change",
    [
        {},
        {"lora__use_dora": True, "lora__bias": "all"},
        {"lora__init_lora_weights": "pissa", "lora__target_modules": "all-linear"},
        {"lora__modules_to_save": ["embeddings"]},
        {"lora__modules_to_save": ["word_embeddings", "embeddings"]},
        {"lora__modules_to_save": ["bert.encoder.layer.1", "dense"]},
        {"train__method": "full"},
        {"train__method": "head"},
    ],
    ids=str,
)
def test_what_can_be_loaded_is_left_as_it_was(
    load_tiny_base: Any, params: Params, change: dict[str, Any]
) -> None:
    wanted = changed(params, **change)
    classifier = method_of(wanted).attach(load_tiny_base("bert"), wanted)
    before, numbers = state(classifier), torch.get_rng_state()
    check_round_trip(classifier, wanted, lambda: load_tiny_base("bert"))
    assert torch.equal(torch.get_rng_state(), numbers)
    after = state(classifier)
    assert before.keys() == after.keys()
    assert all(torch.equal(tensor, after[name]) for name, tensor in before.items())


def spoil(monkeypatch: pytest.MonkeyPatch, field: str, value: Any) -> None:
    """Let an adapter with this value of a field lose its last tensor when it is loaded."""
    method = methods.METHODS["lora"]

    def lossy(classifier: Classifier, folder: Path, saved: dict[str, Tensor]) -> Classifier:
        loaded = method.load(classifier, folder, saved)
        if getattr(loaded.model.peft_config["default"], field) == value:
            with torch.no_grad():
                [p for p in loaded.model.parameters() if p.requires_grad][-1].add_(0.5)
        return loaded

    monkeypatch.setitem(methods.METHODS, "lora", replace(method, load=lossy))


@pytest.mark.usefixtures("project")
@pytest.mark.parametrize(
    ("field", "value", "plain"),
    [
        ("use_dora", True, "false"),
        ("bias", "lora_only", '"none"'),
        ("rank_pattern", {"key": 2}, "{}"),
    ],
)
def test_what_cannot_is_refused_before_training_with_the_fields_that_may_cause_it(
    params: Params, monkeypatch: pytest.MonkeyPatch, field: str, value: Any, plain: str
) -> None:
    spoil(monkeypatch, field, value)
    before = load_file(paths.ADAPTER_WEIGHTS)
    wanted = changed(params, lora__use_rslora=True, **{f"lora__{field}": value})
    with pytest.raises(ParamsError) as caught:
        train_lora(wanted)
    message = str(caught.value)
    assert "params.yaml: lora: an adapter like this cannot be loaded once it is saved: " in message
    assert message.endswith(f"Fix: set lora.{field} to {plain}")
    after = load_file(paths.ADAPTER_WEIGHTS)
    assert all(torch.equal(tensor, after[name]) for name, tensor in before.items())
    train_lora(changed(params, lora__use_rslora=True, train__epochs=0))  # the remedy


@pytest.mark.usefixtures("project")
def test_embeddings_that_train_come_back(
    params: Params, capsys: pytest.CaptureFixture[str]
) -> None:
    train_lora(changed(params, lora__modules_to_save=["embeddings"], train__epochs=1))
    assert "(6 modules), all of bert.embeddings, head classifier" in capsys.readouterr().out
    saved = load_file(paths.ADAPTER_WEIGHTS)
    assert any(name.endswith("embeddings.word_embeddings.weight") for name in saved)


def test_a_module_in_the_head_is_not_saved_twice(load_tiny_base: Any, params: Params) -> None:
    inside = params.lora.model_copy(update={"modules_to_save": ["out_proj"]})
    classifier = attach_lora(load_tiny_base("roberta"), inside)
    assert set(classifier.model.peft_config["default"].modules_to_save) == {"classifier", "score"}
    norms = params.lora.model_copy(update={"modules_to_save": ["norm"]})
    modern = attach_lora(load_tiny_base("modernbert"), norms)
    saved = modern.model.peft_config["default"].modules_to_save
    assert "model.embeddings.norm" in saved
    assert "head.norm" not in saved
    assert torch.equal(logits(modern), logits(load_tiny_base("modernbert")))
