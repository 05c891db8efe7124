"""The bag-of-words baseline: chosen on validation, also for texts without words."""

from __future__ import annotations

import pytest

from stages.core.params import TfidfParams
from stages.model.tfidf import fit_tfidf, giveaways
from stages.rows.prepared import Split

TRAIN = Split([], ["good film", "bad film", "good work", "bad work"] * 5, [1, 0, 1, 0] * 5)


def test_validation_chooses_the_setting() -> None:
    # Of single words nothing can be said here; of pairs everything.
    texts = ["a b", "b a"] * 10
    train = Split([], texts, [0, 1] * 10)
    _, chosen = fit_tfidf(train, train, TfidfParams(ngrams=[1, 2], c=[1.0]))
    assert chosen == {"ngrams": 2, "c": 1.0}


def test_of_equals_the_first_setting_wins() -> None:
    _, chosen = fit_tfidf(TRAIN, TRAIN, TfidfParams(ngrams=[1, 2], c=[3.0, 1.0]))
    assert chosen == {"ngrams": 1, "c": 3.0}


@pytest.mark.parametrize(
    "texts", [["!!!", "???"], ["\U0001f600 \U0001f389", "\U0001f622"], ["$ $", "% %"]], ids=ascii
)
def test_texts_without_a_word_are_told_apart_by_their_characters(texts: list[str]) -> None:
    rows = Split([], texts * 10, [0, 1] * 10)
    baseline, _ = fit_tfidf(rows, rows, TfidfParams(ngrams=[1], c=[10.0]))
    assert baseline.predict(texts).tolist() == [0, 1]
    lines = giveaways(rows, ["first", "second"])
    assert any("first" in line for line in lines)


def test_a_text_without_a_word_is_no_character_among_texts_with_words() -> None:
    rows = Split([], ["good !!!", "bad ???"] * 10, [1, 0] * 10)
    baseline, _ = fit_tfidf(rows, rows, TfidfParams(ngrams=[1], c=[1.0]))
    assert sorted(baseline[0].vocabulary_) == ["bad", "good"]
