"""Scores of known predictions, and predictions that hang on nothing but text and model."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from stages.core.errors import NumericsError
from stages.model.device import resolve, set_up
from stages.scoring.logits import predict_logits, probabilities_of
from tests.support.tiny import COMPUTE, MODELS, table

TEXTS = [text for text, _ in table(classes=2, rows=20)]


def predicted(classifier: Any, texts: list[str] = TEXTS) -> torch.Tensor:
    return predict_logits(classifier, texts, 32, set_up(COMPUTE), "test")


def test_probabilities_are_the_softmax_in_double() -> None:
    found = probabilities_of(torch.tensor([[0.0, math.log(3)], [1000.0, 0.0]]))
    assert found.dtype == np.float64
    assert found == pytest.approx(np.array([[0.25, 0.75], [1, 0]]), rel=1e-7)


@pytest.mark.parametrize("name", MODELS)
def test_the_batch_size_changes_no_prediction(load_tiny_base: Any, name: str) -> None:
    classifier = load_tiny_base(name)
    expected = predicted(classifier)
    for size in (1, 40):
        device = replace(set_up(COMPUTE), batch_tokens=size)
        found = predict_logits(classifier, TEXTS, 32, device, "test")
        torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)
        assert torch.equal(found.argmax(dim=1), expected.argmax(dim=1))


def test_each_text_gets_its_own_logits_in_any_order(load_tiny_base: Any) -> None:
    classifier = load_tiny_base("bert-no-pooler")
    expected = predicted(classifier)
    backwards = predicted(classifier, TEXTS[::-1])
    torch.testing.assert_close(backwards.flip(0), expected, rtol=1e-4, atol=1e-5)
    assert len({round(float(value), 4) for value in expected[:, 0]}) == len(TEXTS)


def test_dropout_is_off_when_texts_are_scored(load_tiny_base: Any) -> None:
    classifier = load_tiny_base("roberta")
    classifier.model.train()
    assert torch.equal(predicted(classifier), predicted(classifier))


def test_bf16_gives_float32_logits_close_to_those_of_fp32(load_tiny_base: Any) -> None:
    classifier = load_tiny_base("bert")
    bf16 = resolve(COMPUTE.model_copy(update={"precision": "bf16"}))
    rough = predict_logits(classifier, TEXTS, 32, bf16, "test")
    assert rough.dtype == torch.float32
    fine = predicted(classifier)
    assert not torch.equal(rough, fine)
    torch.testing.assert_close(rough, fine, rtol=0.1, atol=0.1)


def test_a_logit_that_is_not_finite_is_refused(load_tiny_base: Any) -> None:
    classifier = load_tiny_base("bert")
    with torch.no_grad():
        classifier.model.classifier.bias[1] = float("nan")
    with pytest.raises(NumericsError, match="test: a logit is not a finite number") as caught:
        predicted(replace(classifier))
    assert caught.value.exit_code == 6
