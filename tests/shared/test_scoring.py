"""Scores of known predictions, and predictions that hang on nothing but text and model."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from conftest import COMPUTE, MODELS, table

from stages.shared import scoring
from stages.shared.compute import Compute, set_up
from stages.shared.dataset import Split
from stages.shared.errors import ModelError, NumericsError
from stages.shared.scoring import (
    majority_accuracy,
    predict_logits,
    probabilities_of,
    score,
    write_predictions,
)

TEXTS = [text for text, _ in table(classes=2, rows=20)]


def split(*targets: int) -> Split:
    return Split([f"id{n}" for n in range(len(targets))], ["x"] * len(targets), list(targets))


def predicted(classifier: Any, texts: list[str] = TEXTS) -> torch.Tensor:
    return predict_logits(classifier, texts, 32, set_up(COMPUTE), "test")


def test_scores_of_known_predictions() -> None:
    probabilities = np.array(
        [[0.5, 0.25, 0.25], [0.6, 0.2, 0.2], [0.1, 0.8, 0.1], [0.125, 0.125, 0.75]]
    )
    scores = score(split(0, 1, 1, 2), probabilities)
    assert scores == pytest.approx(
        {
            "accuracy": 3 / 4,
            "f1_macro": (2 / 3 + 2 / 3 + 1) / 3,
            "log_loss": -(math.log(0.5) + math.log(0.2) + math.log(0.8) + math.log(0.75)) / 4,
        },
        rel=1e-9,
    )


def test_a_class_without_rows_counts_as_zero_in_the_macro_mean() -> None:
    scores = score(split(0, 1), np.array([[0.8, 0.1, 0.1], [0.1, 0.8, 0.1]]))
    assert scores["accuracy"] == 1
    assert scores["f1_macro"] == pytest.approx(2 / 3)


def test_a_certain_and_wrong_prediction_has_a_finite_loss() -> None:
    assert math.isfinite(score(split(0, 1), np.array([[0.0, 1.0], [0.0, 1.0]]))["log_loss"])


def test_the_majority_is_that_of_the_training_rows() -> None:
    assert majority_accuracy(split(2, 2, 0), split(0, 0, 2, 1)) == 0.25


def test_probabilities_are_the_softmax_in_double() -> None:
    found = probabilities_of(torch.tensor([[0.0, math.log(3)], [1000.0, 0.0]]))
    assert found.dtype == np.float64
    assert found == pytest.approx(np.array([[0.25, 0.75], [1, 0]]), rel=1e-7)


def test_predictions_are_written_a_row_a_line(tmp_path: Path) -> None:
    file = tmp_path / "deep" / "x.csv"
    write_predictions(file, split(1, 0), ["a,b", "1"], np.array([[0.25, 0.75], [1 / 3, 2 / 3]]))
    assert file.read_bytes() == (
        b'id,label,predicted,"p_a,b",p_1\nid0,1,1,0.25,0.75\nid1,"a,b",1,0.333333333,0.666666667\n'
    )


@pytest.mark.parametrize("shape", [(2, 3), (3, 2), (2, 1)])
def test_probabilities_for_other_classes_or_rows_are_refused(
    tmp_path: Path, shape: tuple[int, int]
) -> None:
    with pytest.raises(ModelError, match=r"probabilities for 2 rows and 2 labels"):
        write_predictions(tmp_path / "x.csv", split(1, 0), ["a", "b"], np.full(shape, 0.5))
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("name", MODELS)
def test_the_batch_size_changes_no_prediction(
    standing: Any, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    classifier = standing(name)
    whole = predicted(classifier)
    for size in (1, 7):
        monkeypatch.setattr(scoring, "ROWS_PER_BATCH", size)
        found = predicted(classifier)
        torch.testing.assert_close(found, whole, rtol=1e-4, atol=1e-5)
        assert torch.equal(found.argmax(dim=1), whole.argmax(dim=1))


def test_each_text_gets_its_own_logits_in_any_order(standing: Any) -> None:
    classifier = standing("bert-no-pooler")
    whole = predicted(classifier)
    backwards = predicted(classifier, TEXTS[::-1])
    torch.testing.assert_close(backwards.flip(0), whole, rtol=1e-4, atol=1e-5)
    assert len({round(float(value), 4) for value in whole[:, 0]}) == len(TEXTS)


def test_dropout_is_off_when_texts_are_scored(standing: Any) -> None:
    classifier = standing("roberta")
    classifier.model.train()
    assert torch.equal(predicted(classifier), predicted(classifier))


def test_bf16_gives_float32_logits_close_to_those_of_fp32(standing: Any) -> None:
    classifier = standing("bert")
    rough = predict_logits(classifier, TEXTS, 32, Compute(torch.device("cpu"), True), "test")
    assert rough.dtype == torch.float32
    fine = predicted(classifier)
    assert not torch.equal(rough, fine)
    torch.testing.assert_close(rough, fine, rtol=0.1, atol=0.1)


def test_a_logit_that_is_not_finite_is_refused(standing: Any) -> None:
    classifier = standing("bert")
    with torch.no_grad():
        classifier.model.classifier.bias[1] = float("nan")
    with pytest.raises(NumericsError, match="test: a logit is not a finite number") as caught:
        predicted(replace(classifier))
    assert caught.value.exit_code == 6
