"""Pooling: the head reads what was chosen, in every architecture and whatever wraps the model."""

from __future__ import annotations

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
from tests.support.adapters import TEXTS, logits
from tests.support.tiny import COMPUTE, MODELS

CPU = resolve(COMPUTE)


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


@pytest.mark.guard("pooling of the adapter")
def test_an_adapter_of_another_pooling_is_refused(load_tiny_base: Any, params: Params) -> None:
    trained = method_of(params).attach(loaded(load_tiny_base, "bert", "mean"), params)
    save_adapter(trained, "lora", "trained", CPU, paths.ADAPTER, paths.BASE_MODEL, 32)
    own = loaded(load_tiny_base, "bert", "auto")
    with pytest.raises(ModelError, match=r"trained with model\.pooling mean, .* with auto"):
        load_adapter(own, paths.ADAPTER, paths.BASE_MODEL)
