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
from stages.model.classifier import Classifier, encoder_of
from stages.model.fast import Projections, fuse_projections, round_frozen, run, speed_up
from stages.model.head import freeze_encoder
from stages.model.load import load_base
from stages.model.lora import attach_lora
from stages.model.methods import METHODS, method_of
from stages.scoring.logits import predict_logits
from tests.support.adapters import BF16, CPU, inputs_of
from tests.support.tiny import MODELS, NAMES, changed, table

ROWS = table(classes=2, rows=24)
TEXTS = [text for text, _ in ROWS]
TARGETS = torch.tensor([NAMES.index(label) for _, label in ROWS])
STEPS = 4
SEED = 5
PLAIN = {"lora_dropout": 0.0, "init_lora_weights": False}  # B is not zero


def trained(classifier: Classifier, device: Any = CPU) -> dict[str, Tensor]:
    """Take a few steps on all rows at once and return what trained."""
    model = classifier.model.train()
    inputs = inputs_of(classifier, TEXTS)
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
        load_base(paths.BASE_MODEL, list(NAMES[:2]), 42, CPU, "auto", rate), params
    )


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("method", METHODS)
def test_with_and_without_it_the_same_weights_are_trained(
    load_tiny_base: Any, params: Params, name: str, method: str
) -> None:
    settings = changed(params, train__method=method, lora__init_lora_weights="gaussian")
    plain = trained(without_dropout(attached(load_tiny_base, name, settings)))
    classifier = without_dropout(attached(load_tiny_base, name, settings))
    start = {n: tensor.clone() for n, tensor in classifier.model.state_dict().items()}
    speed_up(classifier, CPU, SEED)
    fast = trained(classifier)
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
    predict_logits(classifier, TEXTS, 32, BF16, "x")  # as a training begins
    for weight, tensor in trained(classifier, BF16).items():
        torch.testing.assert_close(tensor, plain[weight], rtol=0.02, atol=0.005)


@pytest.mark.parametrize("name", MODELS)
def test_rounding_what_is_frozen_changes_no_bit_in_bf16(load_tiny_base: Any, name: str) -> None:
    base = load_tiny_base(name)
    before = predict_logits(base, TEXTS, 32, BF16, "test")
    freeze_encoder(base)
    round_frozen(base)
    assert torch.equal(predict_logits(base, TEXTS, 32, BF16, "test"), before)
    modules = getattr(encoder_of(base.model), "encoder", nn.Module()).modules()
    linear = {module.weight.dtype for module in modules if isinstance(module, nn.Linear)}
    assert linear <= {torch.bfloat16}
    assert {tensor.dtype for tensor in base.head_state().values()} == {torch.float32}


def test_nothing_is_rounded_that_trains(load_tiny_base: Any, params: Params) -> None:
    full = load_tiny_base("bert")
    round_frozen(full)  # every weight trains
    assert {p.dtype for p in full.model.parameters()} == {torch.float32}
    adapted = attach_lora(load_tiny_base("bert"), params.lora)
    round_frozen(adapted)
    assert {p.dtype for p in adapted.model.parameters() if p.requires_grad} == {torch.float32}
    layer = adapted.model.base_model.model.bert.encoder.layer[0]
    assert layer.output.dense.weight.dtype == torch.bfloat16


def other_logits(classifier: Classifier) -> Any:
    head = classifier.model.base_model.model.classifier
    return head.register_forward_hook(lambda _, __, logits: logits * 1.1).remove


def other_gradients(classifier: Classifier) -> Any:
    """B is zero at the start, so the logits cannot tell."""
    undo = fuse_projections(classifier.model, lambda: run(classifier))
    for module in classifier.model.modules():
        if "forward" in vars(module):
            module.lora_A["default"].weight.data *= 1.5
    return undo


@pytest.mark.parametrize("wrong", [other_logits, other_gradients])
def test_fused_projections_that_give_other_values_are_taken_off_and_named(
    load_tiny_base: Any,
    params: Params,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    wrong: Any,
) -> None:
    classifier = attached(load_tiny_base, "bert", params)
    monkeypatch.setattr(fast, "fuse_projections", lambda *_: wrong(classifier))
    speed_up(classifier, CPU, SEED)
    assert capsys.readouterr().out.count("note: projections are not fused") == 1
    assert not classifier.model.base_model.model.classifier._forward_hooks
    assert not any("forward" in vars(module) for module in classifier.model.modules())


def test_speeding_up_moves_no_weight_and_draws_no_random_number(
    load_tiny_base: Any, params: Params
) -> None:
    classifier = attached(load_tiny_base, "bert", params)
    before = {name: p.clone() for name, p in classifier.model.named_parameters()}
    numbers = torch.get_rng_state()
    speed_up(classifier, CPU, SEED)
    assert torch.equal(torch.get_rng_state(), numbers)
    assert all(torch.equal(p, before[n]) for n, p in classifier.model.named_parameters())
    assert all(p.grad is None for p in classifier.model.parameters())


def step(classifier: Classifier) -> tuple[Tensor, dict[str, Tensor]]:
    """Return the logits of TEXTS and the gradient of every weight that trains."""
    classifier.model.eval().zero_grad()
    logits = classifier.model(**inputs_of(classifier, TEXTS)).logits
    logits.square().sum().backward()
    named = classifier.model.named_parameters()
    return logits.detach(), {n: p.grad.clone() for n, p in named if p.grad is not None}


def read_other_states(classifier: Classifier) -> None:
    """Let the first layer's value read what its query and key do not."""
    attention = classifier.model.base_model.model.bert.encoder.layer[0].attention.self
    attention.value.register_forward_pre_hook(lambda _, states: (states[0] * 2,))


THREE = [3, 3]  # query, key and value of each of two layers
FUSED: list[tuple[str, dict[str, Any], Any, list[int]]] = [
    *((name, {}, None, THREE) for name in ("bert", "roberta", "mpnet", "distilbert", "electra")),
    ("modernbert", {}, None, [1, 1]),
    ("albert", {}, None, [3]),  # its layers are one
    ("deberta", {}, None, THREE),
    # Query and key read the bottleneck, value does not.
    ("MobileBERT", {}, None, [1, 1, 2, 2]),
    ("bert", {}, read_other_states, [1, 2, 3]),
    ("bert", {"use_rslora": True, "rank_pattern": {"key": 2}}, None, THREE),
    ("bert", {"alpha_pattern": {"value": 3}}, None, THREE),
    ("bert", {"target_modules": ["query", "value"]}, None, [2, 2]),
    ("bert", {"target_modules": "all-linear", "layers_to_transform": [1]}, None, [1, 1, 1, 3]),
    # What is not plain is left to PEFT.
    *(("bert", change, None, []) for change in ({"use_dora": True}, {"bias": "lora_only"})),
    ("bert", {"bias": "all"}, None, []),
]


@pytest.mark.parametrize(("name", "changes", "provoke", "sizes"), FUSED)
def test_what_reads_the_same_states_is_fused_with_pefts_outputs_and_gradients(
    load_tiny_base: Any,
    params: Params,
    monkeypatch: pytest.MonkeyPatch,
    name: str,
    changes: dict[str, Any],
    provoke: Any,
    sizes: list[int],
) -> None:
    found: list[int] = []

    class Counting(Projections):
        def __init__(self, members: list[Any]) -> None:
            found.append(len(members))
            super().__init__(members)

    monkeypatch.setattr(fast, "Projections", Counting)
    classifier = attach_lora(load_tiny_base(name), params.lora.model_copy(update=PLAIN | changes))
    if provoke:
        provoke(classifier)
    logits, gradients = step(classifier)
    fuse_projections(classifier.model, lambda: run(classifier))
    fused, fused_gradients = step(classifier)
    assert sorted(found) == sizes
    torch.testing.assert_close(fused, logits, rtol=1e-4, atol=1e-5)
    assert set(gradients) == set(fused_gradients)
    for weight, gradient in gradients.items():
        torch.testing.assert_close(fused_gradients[weight], gradient, rtol=1e-3, atol=1e-4)
