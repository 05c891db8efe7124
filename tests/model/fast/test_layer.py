"""The fast layer changes how fast a model trains, not which model is trained."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from stages.core import paths
from stages.core.params import Params
from stages.model import fast
from stages.model.classifier import Classifier
from stages.model.device import resolve
from stages.model.fast import speed_up
from stages.model.load import load_base
from stages.model.methods import METHODS, method_of
from stages.scoring.logits import predict_logits
from tests.support.tiny import COMPUTE, MODELS, NAMES, changed, table

ROWS = table(classes=2, rows=24)
TARGETS = torch.tensor([NAMES.index(label) for _, label in ROWS])
STEPS = 4
FP32 = resolve(COMPUTE)
BF16 = resolve(COMPUTE.model_copy(update={"precision": "bf16"}))
SEED = 5


def trained(classifier: Classifier, device: Any = FP32) -> dict[str, Tensor]:
    """Take a few steps on all rows at once and return what trained."""
    model = classifier.model.train()
    batch = classifier.tokenizer([text for text, _ in ROWS], padding=True, return_tensors="pt")
    inputs = {name: batch[name] for name in ("input_ids", "attention_mask")}
    weights = {name: p for name, p in model.named_parameters() if p.requires_grad}
    optimiser = torch.optim.SGD(weights.values(), lr=0.05)
    torch.manual_seed(SEED)
    for _ in range(STEPS):
        optimiser.zero_grad()
        with device.autocast():
            loss = cross_entropy(model(**inputs).logits, TARGETS)
        torch.autograd.backward(loss)
        optimiser.step()
    return {name: weight.detach().clone() for name, weight in weights.items()}


def without_dropout(classifier: Classifier) -> Classifier:
    for module in classifier.model.modules():
        if isinstance(module, nn.Dropout):
            module.p = 0.0
    return classifier


def attached(load_tiny_base: Any, name: str, params: Params) -> Classifier:
    load_tiny_base(name)
    rate = params.train.attention_dropout
    return method_of(params).attach(
        load_base(paths.BASE_MODEL, list(NAMES[:2]), 42, FP32, "auto", rate), params
    )


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("method", METHODS)
def test_with_and_without_it_the_same_weights_are_trained(
    load_tiny_base: Any, params: Params, name: str, method: str
) -> None:
    settings = changed(params, train__method=method, lora__init_lora_weights="gaussian")
    plain = trained(without_dropout(attached(load_tiny_base, name, settings)))
    classifier = without_dropout(attached(load_tiny_base, name, settings))
    speed_up(classifier, FP32, SEED)
    fast = trained(classifier)
    start = attached(load_tiny_base, name, settings).model.state_dict()
    assert plain.keys() == fast.keys()
    assert any(not torch.equal(plain[weight], start[weight]) for weight in plain)
    for weight, tensor in plain.items():
        torch.testing.assert_close(fast[weight], tensor, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", MODELS)
def test_in_bf16_the_same_weights_are_trained_up_to_rounding(
    load_tiny_base: Any, params: Params, name: str
) -> None:
    plain = trained(without_dropout(attached(load_tiny_base, name, params)), BF16)
    classifier = without_dropout(attached(load_tiny_base, name, params))
    speed_up(classifier, BF16, SEED)
    predict_logits(classifier, [text for text, _ in ROWS], 32, BF16, "x")  # as a training begins
    for weight, tensor in trained(classifier, BF16).items():
        torch.testing.assert_close(tensor, plain[weight], rtol=0.02, atol=0.005)


def test_fused_projections_that_give_other_logits_are_taken_off_and_named(
    load_tiny_base: Any,
    params: Params,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    classifier = without_dropout(attached(load_tiny_base, "bert", params))

    def wrong(*_: Any) -> Any:
        head = classifier.model.base_model.model.classifier
        return head.register_forward_hook(lambda _, __, logits: logits * 1.1).remove

    monkeypatch.setattr(fast, "fuse_projections", wrong)
    speed_up(classifier, FP32, SEED)
    assert capsys.readouterr().out.count("note: projections are not fused") == 1
    assert not classifier.model.base_model.model.classifier._forward_hooks


def test_a_wrong_gradient_of_what_is_zero_at_the_start_is_seen(
    load_tiny_base: Any,
    params: Params,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    fuse = fast.fuse_projections

    def wrong(model: Any, forward: Any) -> Any:
        undo = fuse(model, forward)
        for module in model.modules():
            if "forward" in vars(module):
                module.lora_A["default"].weight.data *= 1.5
        return undo

    monkeypatch.setattr(fast, "fuse_projections", wrong)
    classifier = attached(load_tiny_base, "bert", params)  # B is zero: the logits cannot tell
    speed_up(classifier, FP32, SEED)
    assert "note: projections are not fused" in capsys.readouterr().out


def test_speeding_up_moves_no_weight_and_draws_no_random_number(
    load_tiny_base: Any, params: Params
) -> None:
    classifier = attached(load_tiny_base, "bert", params)
    before = {name: p.clone() for name, p in classifier.model.named_parameters()}
    numbers = torch.get_rng_state()
    speed_up(classifier, FP32, SEED)
    assert torch.equal(torch.get_rng_state(), numbers)
    assert all(torch.equal(p, before[n]) for n, p in classifier.model.named_parameters())
    assert all(p.grad is None for p in classifier.model.parameters())
