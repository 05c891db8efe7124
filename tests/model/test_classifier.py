"""The two halves of a classifier, run apart."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from stages.model.classifier import Classifier, features, head_logits
from tests.support.tiny import MODELS, NAMES


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
