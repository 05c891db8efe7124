"""The head: its fit is the optimum, validation chooses the penalty, and its file is checked."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression
from torch.nn.functional import cross_entropy

from stages.core import paths
from stages.core.errors import ModelError
from stages.model.classifier import head_logits, within
from stages.model.device import set_up
from stages.model.head import (
    UNTRAINED_SEEDS,
    divide_logits,
    fit_head,
    freeze_encoder,
    last_layer,
    load_head,
    mean_start,
    put_head,
    reset_head,
    save_head,
    untrained_accuracies,
)
from stages.model.lora import attach_lora
from stages.scoring.logits import cached_features, predict_logits
from tests.support.tiny import COMPUTE, MODELS, NAMES, changed, shipped, table

ROWS = table(classes=3, rows=90)
TARGETS = [NAMES.index(label) for _, label in ROWS]
PENALTY = 0.01
LORA = changed(shipped(), lora__r=3, lora__target_modules="attention").lora  # r = classes
HEAD_FILE = paths.HEAD_WEIGHTS.name


def features_of(classifier: Any) -> Any:
    return cached_features(classifier, [text for text, _ in ROWS], 32, set_up(COMPUTE), "x")


def loss_of(classifier: Any, features: Any, targets: list[int]) -> float:
    with torch.no_grad():
        return float(cross_entropy(head_logits(classifier, *features), torch.tensor(targets)))


def test_the_fitted_head_is_the_optimum_that_scikit_learn_finds(load_tiny_base: Any) -> None:
    base = load_tiny_base("bert", NAMES)
    features = features_of(base)
    data = (features, TARGETS)
    assert fit_head(base, data, data, [PENALTY]) == PENALTY

    inputs = features[1].double().numpy()
    model = LogisticRegression(C=1 / (len(TARGETS) * PENALTY), tol=1e-10, max_iter=10_000)
    model.fit(inputs, TARGETS)

    def objective(weights: Any, bias: Any) -> float:
        logits = torch.tensor(inputs @ weights.T + bias)
        loss = cross_entropy(logits, torch.tensor(TARGETS))
        return float(loss) + PENALTY / 2 * float(np.square(weights).sum())

    head = {name: tensor.double().numpy() for name, tensor in base.head_state().items()}
    own = objective(head["classifier.weight"], head["classifier.bias"])
    assert own == pytest.approx(objective(model.coef_, model.intercept_), abs=1e-4)
    assert loss_of(base, features, TARGETS) < 0.9 * np.log(3)


@pytest.mark.parametrize("name", ["bert", "roberta"])
def test_validation_chooses_the_penalty_and_its_head_is_kept(
    load_tiny_base: Any, name: str
) -> None:
    base = load_tiny_base(name, NAMES)
    features = features_of(base)
    data = (features, TARGETS)
    wrong = [(target + 1) % 3 for target in TARGETS]
    penalties = [1.0, 0.001, 0.1]
    fresh = base.head_state()
    losses = {}
    for penalty in penalties:
        base.model.load_state_dict(fresh, strict=False)
        fit_head(base, data, data, [penalty])
        losses[penalty] = (loss_of(base, features, TARGETS), loss_of(base, features, wrong))
    for place, (targets, best) in enumerate([(TARGETS, 0.001), (wrong, 1.0)]):
        base.model.load_state_dict(fresh, strict=False)
        assert fit_head(base, data, (features, targets), penalties) == best
        assert loss_of(base, features, targets) == losses[best][place]
        assert losses[best][place] == min(pair[place] for pair in losses.values())


def test_the_encoder_stays_as_it_is(load_tiny_base: Any) -> None:
    base = load_tiny_base("bert-no-pooler", NAMES)
    before = {name: tensor.clone() for name, tensor in base.model.state_dict().items()}
    untrained_accuracies(base, features_of(base), TARGETS)
    fit_head(base, (features_of(base), TARGETS), (features_of(base), TARGETS), [PENALTY])
    for name, tensor in base.model.state_dict().items():
        assert torch.equal(tensor, before[name]) is (name not in base.head_state())


def test_untrained_heads_are_one_for_each_seed(load_tiny_base: Any) -> None:
    base = load_tiny_base("bert", NAMES)
    features = features_of(base)
    found = untrained_accuracies(base, features, TARGETS)
    assert len(found) == UNTRAINED_SEEDS
    for seed in (0, 9):
        reset_head(base, seed)
        with torch.no_grad():
            guessed = head_logits(base, *features).argmax(dim=1)
        assert found[seed] == float((guessed == torch.tensor(TARGETS)).double().mean())
    assert len(set(found)) > 2


@pytest.mark.parametrize("name", ["bert-no-pooler", "distilbert"])
def test_a_reset_head_is_as_fresh_as_the_first(load_tiny_base: Any, name: str) -> None:
    classifier = load_tiny_base(name)
    body = {k: v.clone() for k, v in classifier.model.state_dict().items()}
    reset_head(classifier, 7)
    first = classifier.head_state()
    reset_head(classifier, 8)
    other = classifier.head_state()
    reset_head(classifier, 7)
    for key, tensor in classifier.head_state().items():
        assert torch.equal(tensor, first[key])
        if key.endswith("weight"):
            assert not torch.equal(tensor, other[key])
            assert float(tensor.std()) == pytest.approx(0.2, rel=0.5)  # the initializer's
    for key, tensor in classifier.model.state_dict().items():
        assert key in first or torch.equal(tensor, body[key])


@pytest.mark.parametrize("labels", [NAMES, ("one",)])
def test_a_head_for_other_classes_is_refused(load_tiny_base: Any, labels: tuple[str, ...]) -> None:
    other = load_tiny_base("bert", labels)
    save_head(other, paths.HEAD, {"l2": PENALTY}, other.head_state())
    with pytest.raises(ModelError, match="models/head: belongs to another") as caught:
        load_head(load_tiny_base("bert"), paths.HEAD)
    assert "dvc repro -f evaluate_base" in str(caught.value)


def test_a_damaged_head_is_refused(load_tiny_base: Any) -> None:
    classifier = load_tiny_base("bert")
    save_head(classifier, paths.HEAD, {"l2": PENALTY}, classifier.head_state())
    whole = (paths.HEAD / HEAD_FILE).read_bytes()
    (paths.HEAD / HEAD_FILE).write_bytes(whole[:-1])
    with pytest.raises(ModelError, match=f"{HEAD_FILE}: {len(whole) - 1} bytes"):
        load_head(classifier, paths.HEAD)
    (paths.HEAD / HEAD_FILE).unlink()
    with pytest.raises(ModelError, match=f"{HEAD_FILE}: 0 bytes"):
        load_head(classifier, paths.HEAD)


@pytest.mark.parametrize("name", MODELS)
def test_only_the_head_takes_gradients(load_tiny_base: Any, name: str) -> None:
    base = load_tiny_base(name)
    freeze_encoder(base)
    trains = {n for n, p in base.model.named_parameters() if p.requires_grad}
    assert trains == {n for n, _ in base.model.named_parameters() if within(n, base.head)}
    assert trains


@pytest.mark.parametrize("name", ["bert", "roberta", "mpnet", "distilbert", "deberta"])
@pytest.mark.parametrize("attach", [lambda base: base, lambda base: attach_lora(base, LORA)])
def test_the_start_is_at_the_class_means_and_reaches_what_trains(
    load_tiny_base: Any, name: str, attach: Any
) -> None:
    base = load_tiny_base(name, NAMES)
    layer = base.model.get_submodule(last_layer(base))
    states: list[torch.Tensor] = []
    hook = layer.register_forward_pre_hook(lambda _, inputs: states.append(inputs[0].flatten(1)))
    features = features_of(base)
    loss_of(base, features, TARGETS)
    hook.remove()
    unit = states[0] / states[0].norm(dim=1, keepdim=True)
    means = torch.stack([unit[torch.tensor(TARGETS) == k].mean(dim=0) for k in range(3)])
    cosines = unit @ (means / means.norm(dim=1, keepdim=True)).T
    lengths = states[0].norm(dim=1, keepdim=True)
    expected = cosines / 0.07 * lengths / lengths.mean()

    start = mean_start(base, (features, TARGETS))
    classifier = attach(base)
    put_head(classifier, start)
    texts = [text for text, _ in ROWS]
    logits = predict_logits(classifier, texts, 32, set_up(COMPUTE), "x")
    assert torch.allclose(logits, expected, atol=1e-3)

    divide_logits(classifier, last_layer(load_tiny_base(name, NAMES)), 2.0)
    halved = predict_logits(classifier, texts, 32, set_up(COMPUTE), "x")
    assert torch.allclose(halved, logits / 2, atol=1e-4)
