"""Which words carried an answer: they add up, and the word that decides is found."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from stages.serving.attribution import (
    Gradients,
    Occlusion,
    by_word,
    count_words,
    log_odds_of,
)
from tests.support.server import WordScorer


def test_tokens_are_added_up_by_word_and_the_rest_kept_apart() -> None:
    text = " un-believable,  ok"
    # [CLS] un - believ able , " ok" (with the space before it) [SEP]
    offsets = [(0, 0), (1, 3), (3, 4), (4, 10), (10, 14), (14, 15), (16, 19), (0, 0)]
    words, rest = by_word(text, offsets, [100, 1, 2, 4, 8, 16, 32, 1000])
    assert [(text[start:end], score) for start, end, score in words] == [
        ("un-believable,", 31),
        ("ok", 32),
    ]
    assert rest == 1100


def test_a_word_that_was_not_read_has_no_score() -> None:
    words, rest = by_word("one two three", [(0, 3), (4, 7)], [1.0, 2.0])
    assert words == [(0, 3, 1.0), (4, 7, 2.0)]
    assert rest == 0.0


@pytest.mark.parametrize(
    ("text", "words"),
    [("", 0), ("a  b\n", 2), ("好看", 2), ("不 ok!", 2), ("ภา", 2), ("한국 말", 2)],
)
def test_scripts_without_spaces_are_split_by_character(text: str, words: int) -> None:
    assert count_words(text) == words


def test_log_odds_are_those_of_the_probability() -> None:
    logits = np.array([[1.0, 2.0, 0.5], [0.0, 0.0, 0.0]], dtype=np.float32)
    for row, odds in zip(logits, log_odds_of(logits, 1), strict=True):
        p = math.exp(row[1]) / sum(math.exp(value) for value in row)
        assert odds == pytest.approx(math.log(p / (1 - p)))


def test_occlusion_says_by_how_much_the_log_odds_fall() -> None:
    text = "good film, bad bad"
    found = Occlusion(WordScorer()).explain(text)
    assert found.target == 0
    assert [(text[start:end], score) for start, end, score in found.words] == [
        ("good", -1),
        ("film,", 0),
        ("bad", 1),
        ("bad", 1),
    ]
    assert (found.total, found.special, found.error) == (1, 0, 0)


@pytest.mark.parametrize(
    "name", ["bert", "roberta", "mpnet", "distilbert", "deberta", "modernbert"]
)
@pytest.mark.parametrize("pooling", ["auto", "mean"])
def test_integrated_gradients_add_up(load_tiny_base: Any, name: str, pooling: str) -> None:
    import torch

    labels = ("negative", "positive", "neutral")
    classifier = load_tiny_base(name, labels, pooling=pooling)
    classifier.model.requires_grad_(False)
    text = "good w1 w2 a longer w7 text"
    found = Gradients(lambda: (classifier, torch.device("cpu")), max_length=32).explain(text)
    assert [text[start:end] for start, end, _ in found.words] == text.split()
    assert abs(found.error) <= 0.03 * max(abs(found.total), 0.1)
    with torch.no_grad():
        encoded = classifier.tokenizer(text, return_tensors="pt")
        inputs = {key: encoded[key] for key in ("input_ids", "attention_mask")}
        logits = classifier.model(**inputs).logits.numpy()
        inside = inputs["input_ids"][0, 1:-1]
        embeddings = classifier.model.get_input_embeddings()
        padding = embeddings.weight[classifier.tokenizer.pad_token_id].clone()
        # What the baseline is, without a hook: the word embeddings themselves are overwritten.
        embeddings.weight[inside.unique()] = padding
        baseline = classifier.model(**inputs).logits.numpy()
    assert found.target == logits[0].argmax()
    odds = log_odds_of(np.concatenate([logits, baseline]), found.target)
    assert found.total == pytest.approx(float(odds[0] - odds[1]), abs=1e-4)


def test_the_classifier_is_loaded_at_the_first_explanation_and_once(load_tiny_base: Any) -> None:
    import torch

    loads = []

    def load() -> Any:
        loads.append(1)
        return load_tiny_base("bert"), torch.device("cpu")

    gradients = Gradients(load, max_length=8)
    assert not loads
    first = gradients.explain("good w1")
    assert gradients.explain("good w1") == first
    assert loads == [1]


def test_only_what_is_read_is_explained(load_tiny_base: Any) -> None:
    import torch

    classifier = load_tiny_base("bert")
    gradients = Gradients(lambda: (classifier, torch.device("cpu")), max_length=4)
    assert [word[:2] for word in gradients.explain("good w1 w2 w3").words] == [(0, 4), (5, 7)]


def test_the_word_that_decides_is_found(project: Path) -> None:
    from stages.serving.served import serve_adapter
    from tests.support.tiny import COMPUTE

    assert Path.cwd() == project
    served = serve_adapter(COMPUTE, with_base=True)
    for text, label in (("w1 w2 good w3", "positive"), ("w4 bad w5 w6", "negative")):
        found = served.explainers["model"].explain(text)
        assert served.model.labels[found.target] == label
        start, end, _ = max(found.words, key=lambda word: word[2])
        assert text[start:end] in ("good", "bad")
        assert abs(found.error) <= 0.05 * abs(found.total)
