"""The table of methods: every entry trains, is saved, and comes back as it was."""

from __future__ import annotations

from typing import Any, get_args

import pytest
import torch

from stages.core import paths
from stages.core.methods import FACTS
from stages.core.params import Params, TrainParams
from stages.model.device import resolve
from stages.model.methods import METHODS, method_of
from stages.model.saved import load_adapter, save_adapter
from tests.support.adapters import logits, shaken
from tests.support.tiny import COMPUTE, MODELS, changed

CPU = resolve(COMPUTE)


def test_the_schema_names_the_methods_of_the_table() -> None:
    assert (
        set(get_args(TrainParams.model_fields["method"].annotation)) == set(METHODS) == set(FACTS)
    )


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("method", METHODS)
def test_what_a_method_trains_comes_back_as_it_was(
    load_tiny_base: Any, params: Params, name: str, method: str
) -> None:
    settings = changed(params, train__method=method)
    base = load_tiny_base(name)
    before = logits(base)
    classifier = method_of(settings).attach(base, settings)
    assert torch.equal(logits(classifier), before)
    trained = logits(shaken(classifier))
    assert not torch.equal(trained, before)
    save_adapter(classifier, method, "trained", CPU, paths.ADAPTER, paths.BASE_MODEL, 32)
    loaded = load_adapter(load_tiny_base(name, seed=3), paths.ADAPTER, paths.BASE_MODEL)
    assert torch.equal(logits(loaded), trained)


@pytest.mark.parametrize("method", METHODS)
def test_a_method_names_params_that_exist(params: Params, method: str) -> None:
    content = params.model_dump()
    for name in FACTS[method].unread:
        section, _, key = name.partition(".")
        assert section in content
        assert not key or key in content[section]


@pytest.mark.parametrize(("method", "rate"), [("lora", 0.01), ("head", 0.01), ("full", 0.02)])
def test_a_method_has_its_learning_rate(params: Params, method: str, rate: float) -> None:
    settings = changed(params, train__full_learning_rate=0.02)
    assert METHODS[method].learning_rate(settings.train) == rate
