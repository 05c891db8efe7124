"""The two halves of a classifier: how they are found and run apart, and what is refused."""

from __future__ import annotations

import re
from typing import Any

import pytest
import torch

from stages.core import paths
from stages.core.errors import ModelError
from stages.model.classifier import Classifier, features, head_logits, probe_batch
from stages.model.device import resolve
from stages.model.load import load_base
from tests.support.tiny import COMPUTE, MODELS, NAMES

CPU = resolve(COMPUTE)


@pytest.mark.parametrize(
    ("name", "steps"),
    [
        ("ALBERT", ("pooler", "pooler_activation")),
        ("bert-no-pooler", ("pooler",)),
        ("bert", ("pooler",)),
        ("BigBird", ("pooler", "activation")),
        ("NomicBERT", ("pooler",)),
        ("roberta", ()),
        ("distilbert", ()),
    ],
)
def test_the_modules_of_the_pooler_are_seen_in_the_model(
    load_tiny_base: Any, name: str, steps: tuple[str, ...]
) -> None:
    assert load_tiny_base(name).pooler == steps


def test_albert_without_a_pooler_trains_one_with_its_head(load_tiny_base: Any) -> None:
    classifier = load_tiny_base("ALBERT")
    assert classifier.head == ("albert.pooler", "classifier")
    assert classifier.has_new_pooler
    assert not load_tiny_base("albert").has_new_pooler


def test_a_head_that_reads_all_tokens_is_refused_with_a_remedy_that_works(
    load_tiny_base: Any,
) -> None:
    with pytest.raises(ModelError, match="reads more of a text than one state") as caught:
        load_tiny_base("EuroBERT")
    remedy = re.search(r"set model\.pooling to (\w+) or (\w+)", str(caught.value))
    assert remedy
    for pooling in remedy.groups():
        assert load_tiny_base("EuroBERT", pooling=pooling).pooling == pooling


def test_an_encoder_with_fewer_states_than_tokens_has_no_mean(load_tiny_base: Any) -> None:
    with pytest.raises(ModelError, match=r"model\.pooling: mean: Funnel.*pooling to auto"):
        load_tiny_base("Funnel", pooling="mean")
    assert load_tiny_base("Funnel").pooling == "auto"


def test_a_refused_architecture_is_named_when_it_is_loaded(load_tiny_base: Any) -> None:
    load_tiny_base("bert")
    file = paths.BASE_MODEL / "config.json"
    file.write_text(file.read_text(encoding="utf-8").replace('"bert"', '"fnet"'), encoding="utf-8")
    with pytest.raises(ModelError, match="fnet is not supported: it has no attention mask"):
        load_base(paths.BASE_MODEL, ["a", "b"], 1, CPU)


def test_the_probe_is_padded_and_has_no_token_types(load_tiny_base: Any) -> None:
    batch = probe_batch(load_tiny_base("bert").tokenizer)
    assert set(batch) == {"input_ids", "attention_mask"}
    assert batch["input_ids"].shape == (2, 5)
    assert batch["attention_mask"].sum(1).tolist() == [3, 5]
    assert batch["input_ids"].dtype == torch.int64


def inputs(classifier: Classifier) -> dict[str, torch.Tensor]:
    texts = ["good w1 w2", "bad w3", "w4 a longer text w5 w6"]
    batch = classifier.tokenizer(texts, padding=True, return_tensors="pt")
    return {name: batch[name] for name in ("input_ids", "attention_mask")}


@pytest.mark.parametrize("name", MODELS)
def test_body_and_head_run_apart_give_the_models_own_logits(load_tiny_base: Any, name: str) -> None:
    classifier = load_tiny_base(name, NAMES)
    classifier.model.eval()
    with torch.no_grad():
        whole = classifier.model(**inputs(classifier)).logits
        apart = head_logits(classifier, *features(classifier, inputs(classifier)))
        again = classifier.model(**inputs(classifier)).logits
    assert whole.shape == (3, 3)
    assert whole.std() > 0.01
    torch.testing.assert_close(apart, whole, rtol=1e-5, atol=1e-6)
    assert torch.equal(again, whole)  # running the head alone left the model as it was


@pytest.mark.parametrize("name", MODELS)
def test_the_head_learns_through_the_replay(load_tiny_base: Any, name: str) -> None:
    classifier = load_tiny_base(name)
    classifier.model.eval()
    with torch.no_grad():
        seen = features(classifier, inputs(classifier))
    torch.autograd.backward(head_logits(classifier, *seen)[:, 0].sum())
    touched = {n for n, p in classifier.model.named_parameters() if p.grad is not None}
    assert touched == set(classifier.head_state())
