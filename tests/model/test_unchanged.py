"""A check leaves no trace in the model, and no batch in what the next one is computed with."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn
from transformers import AutoConfig, AutoModelForSequenceClassification

from stages.core import paths
from stages.core.params import Params
from stages.model.classifier import unchanged
from stages.model.device import resolve
from stages.model.fast import speed_up
from stages.model.lora import attach_lora
from tests.support.adapters import inputs_of, shaken
from tests.support.tiny import COMPUTE

LONG, SHORT = " ".join(f"w{n % 60}" for n in range(60)), "good w1"


def test_the_mode_and_the_random_numbers_come_back_from_an_error_too() -> None:
    model = nn.Linear(2, 2).train()
    before = torch.get_rng_state()

    def fail() -> None:
        with unchanged(model):
            model.eval()
            torch.rand(1)
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fail()
    assert model.training
    assert torch.equal(torch.get_rng_state(), before)


def texts_of(classifier: Any, text: str) -> dict[str, Tensor]:
    return inputs_of(classifier, [text])


def logits_of(classifier: Any, text: str) -> Tensor:
    with torch.no_grad():
        logits: Tensor = classifier.model.eval()(**texts_of(classifier, text)).logits
    return logits


def test_bigbird_stays_sparse_whatever_was_scored_before(load_tiny_base: Any) -> None:
    ours = load_tiny_base("BigBird")
    config = AutoConfig.from_pretrained(paths.BASE_MODEL, num_labels=2)
    plain = AutoModelForSequenceClassification.from_pretrained(paths.BASE_MODEL, config=config)
    plain.classifier.load_state_dict(ours.model.classifier.state_dict())
    with torch.no_grad():
        expected = plain.eval()(**texts_of(ours, LONG)).logits
        plain.bert.set_attention_type("original_full")
        full = plain(**texts_of(ours, LONG)).logits
    assert not torch.allclose(expected, full, atol=1e-3)  # else the test shows nothing
    assert ours.model.bert.attention_type == "block_sparse"
    for text in (LONG, SHORT, LONG):
        found = logits_of(ours, text)
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-6)


@pytest.mark.slow
def test_bigbird_keeps_its_adapter_in_both_kinds_of_attention(
    load_tiny_base: Any, params: Params
) -> None:
    trained = shaken(attach_lora(load_tiny_base("BigBird"), params.lora))
    before = [logits_of(trained, text) for text in (LONG, SHORT)]
    speed_up(trained, resolve(COMPUTE), 0)
    for text, expected in zip((LONG, SHORT, LONG), [*before, before[0]], strict=True):
        torch.testing.assert_close(logits_of(trained, text), expected, rtol=1e-4, atol=1e-5)
    base = [logits_of(load_tiny_base("BigBird"), text) for text in (LONG, SHORT)]
    assert all(not torch.allclose(a, b, atol=1e-3) for a, b in zip(base, before, strict=True))
