"""Scores of known predictions, and predictions that hang on nothing but text and model."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from stages.core.errors import NumericsError
from stages.model.device import Device, resolve, set_up
from stages.scoring import logits
from stages.scoring.logits import cached_features, predict_logits, probabilities_of
from tests.support.tiny import COMPUTE, MODELS, table

TEXTS = [text for text, _ in table(classes=2, rows=20)]


def predicted(classifier: Any, texts: list[str] = TEXTS) -> torch.Tensor:
    return predict_logits(classifier, texts, 32, set_up(COMPUTE), "test")


def with_batches_of(tokens: int) -> Device:
    device = set_up(COMPUTE)
    return replace(device, kind=replace(device.kind, batch_tokens=tokens))


def test_probabilities_are_the_softmax_in_double() -> None:
    found = probabilities_of(torch.tensor([[0.0, math.log(3)], [1000.0, 0.0]]))
    assert found.dtype == np.float64
    assert found == pytest.approx(np.array([[0.25, 0.75], [1, 0]]), rel=1e-7)


@pytest.mark.parametrize("name", MODELS)
def test_the_batch_size_changes_no_prediction(load_tiny_base: Any, name: str) -> None:
    classifier = load_tiny_base(name)
    expected = predicted(classifier)
    for size in (1, 40):
        device = with_batches_of(size)
        found = predict_logits(classifier, TEXTS, 32, device, "test")
        torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)
        assert torch.equal(found.argmax(dim=1), expected.argmax(dim=1))


@pytest.mark.parametrize(("size", "tokens"), [(2, 40), (3, 40), (4, 1 << 10)])
@pytest.mark.parametrize("name", ["bert", "roberta"])  # with a pooler, and without one
def test_what_several_processes_score_is_put_together_in_the_rows_order(
    load_tiny_base: Any, monkeypatch: pytest.MonkeyPatch, name: str, size: int, tokens: int
) -> None:
    classifier = load_tiny_base(name)
    device = with_batches_of(tokens)
    alone = predict_logits(classifier, TEXTS, 32, device, "test")
    states = cached_features(classifier, TEXTS, 32, device, "test")
    parts: list[list[Any]] = [[], []]  # of the logits, of the features
    gathered = [lambda item, kept=kept: kept.append(item) or [item] for kept in parts]
    for rank in reversed(range(size)):  # each is the last of them: the first gets all
        monkeypatch.setattr(logits, "share", lambda rank=rank: (rank, size))
        if rank == 0:
            gathered = [lambda item, kept=kept: [item, *kept[::-1]] for kept in parts]
        monkeypatch.setattr(logits, "gathered", gathered[0])
        together = predict_logits(classifier, TEXTS, 32, device, "test")
        monkeypatch.setattr(logits, "gathered", gathered[1])
        features = cached_features(classifier, TEXTS, 32, device, "test")
    torch.testing.assert_close(together, alone, rtol=1e-4, atol=1e-5)
    for own, expected in zip(features, states, strict=True):
        assert (own is None) == (expected is None)
        if own is not None:
            torch.testing.assert_close(own, expected, rtol=1e-4, atol=1e-5)
    shares = [len(rows) for rows, _ in parts[0]]
    assert len(shares) == size - 1
    assert (0 in shares) == (tokens > 40)  # one batch for all leaves some without


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
