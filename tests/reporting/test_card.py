"""The model card: a head that is YAML, the whole verdict, and how to load each method."""

from __future__ import annotations

from typing import Any

import pytest
from ruamel.yaml import YAML

from stages.core.params import Params, load_params
from stages.reporting import page
from stages.reporting.card import model_card
from tests.support.example_results import HOSTILE, example
from tests.support.tiny import ROOT, changed


@pytest.fixture(scope="module")
def own() -> Params:
    return load_params(ROOT / "params.yaml")


def test_the_head_of_the_card_is_yaml(own: Params) -> None:
    odd = changed(own, model__source='a: "b" # c', data__source="- x\\ 🙂")
    card = model_card(example(odd, HOSTILE))
    head = YAML(typ="safe").load(card.split("---\n")[1])
    assert head["base_model"] == 'a: "b" # c'
    assert head["library_name"] == "peft"
    assert head["pipeline_tag"] == "text-classification"
    assert head["model-index"][0]["results"][0]["dataset"]["name"] == "- x\\ 🙂"
    metrics = head["model-index"][0]["results"][0]["metrics"]
    assert {entry["type"] for entry in metrics} == {"accuracy", "f1"}


def test_the_card_shows_the_verdict_and_the_complete_source(own: Params) -> None:
    pinned = "an-owner/a-rather-long-name-of-a-model@" + 4 * "0123456789"
    results = example(changed(own, model__source=pinned), ["no", "yes"])
    card = model_card(results)
    assert f"{results.verdict}." in card
    assert page.plain(pinned, len(pinned)) in card
    head = YAML(typ="safe").load(card.split("---\n")[1])
    assert head["base_model"] == "an-owner/a-rather-long-name-of-a-model"


def test_the_card_of_full_fine_tuning_loads_no_adapter(own: Params) -> None:
    card = model_card(example(changed(own, train__method="full"), ["no", "yes"]))
    assert "PeftModel" not in card
    assert "load_state_dict" in card


@pytest.mark.parametrize("method", ["lora", "full", "head"])
def test_the_base_is_loaded_as_it_was_trained_whatever_type_it_is_stored_in(
    own: Params, method: str
) -> None:
    card = model_card(example(changed(own, train__method=method), ["no", "yes"]))
    assert card.count("base_folder, config=config, dtype=torch.float32") == 1


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"lora__use_dora": True, "model__pooling": "auto"}, "the magnitudes of a DoRA adapter"),
        ({"model__pooling": "mean"}, "(model.pooling: mean)"),
        ({"model__pooling": "auto"}, None),
    ],
)
def test_the_card_says_what_transformers_alone_would_load_wrongly(
    own: Params, change: dict[str, Any], words: str | None
) -> None:
    card = model_card(example(changed(own, **change), ["no", "yes"]))
    assert ("raises no error, but gives\nother answers" in card) is (words is not None)
    assert words is None or words in card
    assert ("gives the same model, for `pipeline()` too" in card) is (words is None)


def test_the_cards_code_takes_no_folder_for_a_hub_id(own: Params) -> None:
    card = model_card(example(own, ["no", "yes"]))
    assert card.count(".resolve(strict=True)") == 2
    assert 'from_pretrained("models/base"' not in card
    assert "ignore_mismatched_sizes=True" in card
