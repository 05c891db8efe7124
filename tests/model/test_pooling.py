"""Pooling: the head reads what was chosen, in every architecture and whatever wraps the model."""

from __future__ import annotations

import re
from typing import Any

import pytest
import torch

from stages.core import paths
from stages.core.errors import ModelError
from stages.core.params import Params
from stages.model.classifier import Classifier, Pooling
from stages.model.device import resolve
from stages.model.methods import method_of
from stages.model.saved import load_adapter, save_adapter
from stages.reporting.card import model_card
from tests.support.adapters import TEXTS, logits, shaken
from tests.support.example_results import example
from tests.support.tiny import COMPUTE, MODELS, changed

CPU = resolve(COMPUTE)
LABELS = ["no", "yes"]


def loaded(load_tiny_base: Any, name: str, pooling: Pooling, seed: int = 42) -> Classifier:
    classifier: Classifier = load_tiny_base(name, ("no", "yes"), seed, pooling)
    return classifier


def batch_of(classifier: Classifier) -> dict[str, Any]:
    batch = classifier.tokenizer(TEXTS, padding=True, return_tensors="pt")
    return {name: batch[name] for name in ("input_ids", "attention_mask")}


@pytest.mark.parametrize("name", MODELS)
def test_padding_does_not_reach_the_mean(load_tiny_base: Any, name: str) -> None:
    classifier = loaded(load_tiny_base, name, "mean")
    together = logits(classifier)
    batch = batch_of(classifier)
    for row, length in enumerate(batch["attention_mask"].sum(1).tolist()):
        with torch.no_grad():
            alone = classifier.model(
                **{key: each[row : row + 1, :length] for key, each in batch.items()}
            )
        torch.testing.assert_close(alone.logits[0], together[row], rtol=1e-4, atol=1e-5)


def test_auto_is_what_the_configuration_says_or_else_the_architecture(load_tiny_base: Any) -> None:
    assert loaded(load_tiny_base, "bert", "auto").pooling == "auto"
    assert loaded(load_tiny_base, "modernbert", "auto").pooling == "mean"
    assert loaded(load_tiny_base, "modernbert", "first").model.config.classifier_pooling == "cls"


def test_another_pooling_does_without_the_pooler_of_bert(load_tiny_base: Any) -> None:
    assert loaded(load_tiny_base, "bert", "auto").model.bert.pooler is not None
    assert not list(loaded(load_tiny_base, "bert", "mean").model.bert.pooler.parameters())
    assert loaded(load_tiny_base, "bert-no-pooler", "mean").head == ("classifier",)


@pytest.mark.parametrize("name", ["bert", "bert-no-pooler", "distilbert", "modernbert"])
@pytest.mark.parametrize("pooling", ["auto", "first", "mean"])
def test_the_lines_of_the_card_load_what_was_trained(
    load_tiny_base: Any, params: Params, name: str, pooling: Pooling
) -> None:
    settings = changed(
        params,
        data__source="movie-reviews",
        model__pooling=pooling,
        lora__target_modules="all-linear",
    )
    trained = method_of(settings).attach(loaded(load_tiny_base, name, pooling), settings)
    save_adapter(shaken(trained), "lora", "trained", CPU, paths.ADAPTER, paths.BASE_MODEL, 32)
    (code,) = re.findall(r"```python\n(.*?)```", model_card(example(settings, LABELS)), re.DOTALL)
    lines: dict[str, Any] = {}
    exec(code.replace('["a text"]', repr(TEXTS[:1])), lines)  # noqa: S102  # the card's own code
    with torch.no_grad():
        theirs = lines["model"](**lines["inputs"]).logits
    batch = batch_of(trained)
    length = int(batch["attention_mask"][0].sum())
    with torch.no_grad():
        ours = trained.model.eval()(
            **{key: each[:1, :length] for key, each in batch.items()}
        ).logits
    torch.testing.assert_close(theirs, ours, rtol=1e-4, atol=1e-5)


@pytest.mark.guard("pooling of the adapter")
def test_an_adapter_of_another_pooling_is_refused(load_tiny_base: Any, params: Params) -> None:
    trained = method_of(params).attach(loaded(load_tiny_base, "bert", "mean"), params)
    save_adapter(trained, "lora", "trained", CPU, paths.ADAPTER, paths.BASE_MODEL, 32)
    own = loaded(load_tiny_base, "bert", "auto")
    with pytest.raises(ModelError, match=r"trained with model\.pooling mean, .* with auto"):
        load_adapter(own, paths.ADAPTER, paths.BASE_MODEL)
