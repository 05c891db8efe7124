"""A comparison in one sentence, p-values for people, and what the report answers."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from stages.reporting.answer import advice, caveats, facts, left_out, use, weakest
from stages.reporting.gather import beside_accuracy, cut_texts
from stages.reporting.results import Results, between, headline, points, shown_p, verdict
from stages.reporting.significance import Gain, paired_gain
from tests.support.example_results import example
from tests.support.tiny import shipped


def gain_of(**changes: float) -> Gain:
    values = {"rows": 1057, "fixed": 100, "broken": 34, "first": 0.75, "second": 0.8125}
    values |= {"low": 0.031, "high": 0.094, "p": 0.0042, "smallest": 0.02}
    return Gain(**(values | changes))  # type: ignore[arg-type]  # rows are whole numbers


def test_a_clear_gain_in_one_sentence() -> None:
    assert verdict(gain_of(), ("base", "adapter")) == (
        "base 75.0 %, adapter 81.2 %: gain +6.2 points, 95 % interval 3.1 to 9.4, p = 0.004 "
        "on 1,057 rows (100 fixed, 34 broken)"
    )


@pytest.mark.parametrize(("p", "clear"), [(0.049, True), (0.05, False), (1.0, False)])
def test_a_gain_that_may_be_zero_is_called_so(p: float, clear: bool) -> None:
    sentence = verdict(gain_of(p=p), ("a", "b"))
    assert sentence.endswith("broken)" if clear else "not distinguishable from zero")


def test_a_loss_is_shown_as_one() -> None:
    lost = gain_of(fixed=34, broken=100, first=0.8125, second=0.75, low=-0.094, high=-0.031)
    assert "gain -6.2 points, 95 % interval -9.4 to -3.1," in verdict(lost, ("a", "b"))


@pytest.mark.parametrize(
    ("p", "shown"),
    [
        (1.0, "p = 1.000"),
        (0.001, "p = 0.001"),
        (0.00099, "p < 1e-3"),
        (3e-9, "p < 1e-8"),
        (1e-300, "p < 1e-15"),
        (0.0, "p < 1e-15"),
    ],
)
def test_a_small_p_is_bounded_from_above(p: float, shown: str) -> None:
    assert shown_p(p) == shown


def test_a_difference_in_points_is_never_minus_zero() -> None:
    assert [points(value) for value in (0.1234, -0.05, 0.0)] == ["+12.3", "-5.0", "+0.0"]
    assert [points(value) for value in (-0.0004, -0.0006)] == ["+0.0", "-0.1"]
    assert between(0.0, 0.1234) == "0.0 to 12.3"


@pytest.mark.parametrize(
    ("low", "high", "shown"), [(-0.0004, 0.12, "-0.04 to 12.00"), (3e-6, 0.1, "0.0003 to 10.0000")]
)
def test_an_end_that_decides_is_not_rounded_to_zero(low: float, high: float, shown: str) -> None:
    assert between(low, high) == shown


PLENTY = {"rows_train": 8000, "rows_validation": 1000}


@pytest.mark.parametrize(
    ("rows", "data", "kept", "said"),
    [
        (1000, PLENTY, "trained", []),
        (1000, PLENTY, "base", ["No trained weights were better than the base"]),
        (40, PLENTY, "trained", ["40 test rows: the adapter's accuracy lies anywhere from 35 to"]),
        (1000, {**PLENTY, "rows_train": 86}, "trained", ["86 rows to train on, 14 a class"]),
        (1000, {**PLENTY, "rows_validation": 10}, "trained", ["10 validation rows: too few"]),
        (1000, {"rows_train": 86, "rows_validation": 10}, "base", ["No", "86 rows", "10 valid"]),
    ],
)
def test_few_rows_and_a_kept_base_are_said(
    rows: int, data: dict[str, int], kept: str, said: list[str]
) -> None:
    half = np.arange(rows) % 2 == 0
    found = caveats(paired_gain(~half, half), data, 6, kept)
    assert len(found) == len(said)
    assert all(line.startswith(start) for line, start in zip(found, said, strict=True))


@pytest.fixture(scope="module")
def results() -> Results:
    return example(shipped(), ["no", "yes"], rows=1000)


BETTER = {"p": 0.001}
NOT_SHOWN = {"p": 0.3, "fixed": 60, "broken": 50}
WORSE = {"p": 0.001, "fixed": 10, "broken": 90, "first": 0.83, "second": 0.75}


@pytest.mark.parametrize(
    ("over_base", "over_words", "kept", "answer"),
    [
        (BETTER, BETTER, "trained", "Yes: +6.2 points over the frozen encoder, +6.2 over bag of"),
        (BETTER, NOT_SHOWN, "trained", "It beats the frozen encoder (+6.2 points"),
        (BETTER, WORSE, "trained", "No: bag of words, which needs no encoder, is better (-8.0"),
        (WORSE, BETTER, "trained", "No: the frozen encoder with a fitted head is better (-8.0"),
        (NOT_SHOWN, BETTER, "trained", "No gain is shown: +6.2 points"),
        ({**NOT_SHOWN, "rows": 120}, BETTER, "trained", "Too few rows to tell: +6.2 points"),
        (BETTER, BETTER, "base", "There is nothing to use"),
    ],
)
def test_whether_to_use_it_follows_from_both_gains(
    results: Results,
    over_base: dict[str, float],
    over_words: dict[str, float],
    kept: str,
    answer: str,
) -> None:
    over = gain_of(**over_base), gain_of(**over_words)
    found = replace(results, kept=kept, gain=over[0], over_tfidf=over[1])
    assert use(found).startswith(answer)


def test_the_headline_names_both_rivals_and_what_accuracy_hides() -> None:
    classes = {"common": {"rows": 60}, "rare": {"rows": 40}}
    rare: dict[str, dict[str, Any]] = {
        "adapter": {"by_class": classes, "f1_macro": 0.5},
        "base": {"f1_macro": 0.25},
    }
    also = beside_accuracy(rare, gain_of(rows=100))
    also += cut_texts({"lengths": [{"max_length": 128, "rows_cut": 0.25}]})
    sentence = headline(gain_of(), gain_of(first=0.8, p=0.2), also)
    assert sentence.startswith("base 75.0 %, adapter 81.2 %: gain +6.2 points")
    assert (
        "; over TF-IDF (80.0 %) +1.2 points, 95 % interval 3.1 to 9.4, p = 0.200: not" in sentence
    )
    assert sentence.endswith("; macro F1 0.500, base 0.250; 128 tokens cut 25.0 % of the rows")
    assert beside_accuracy(rare, gain_of(rows=120)) == []  # 60 are not more than half
    assert cut_texts({"lengths": [{"max_length": 128, "rows_cut": 0.1}]}) == []


def test_the_weakest_class_and_texts_are_named(results: Results) -> None:
    classes: dict[str, Any] = {
        name: {"rows": rows, "recall": recall}
        for name, rows, recall in (("no", 500, 0.9), ("yes", 500, 0.6), ("few", 3, 0.0))
    }
    (length, *_) = [g for g in results.flips.groups if g.kind == "length"]
    bad = replace(length, name="up to 9 words", gain=gain_of(rows=100, second=0.5))
    flips = replace(results.flips, groups=[*results.flips.groups, bad])
    found = weakest(replace(results, details={"adapter": {"by_class": classes}}, flips=flips))
    assert found.endswith(
        "Weakest: the class yes (it finds 60.0 % of its rows) and texts of up to 9 words "
        "(50.0 % right)"
    )
    assert "texts" not in weakest(results)  # none is worse than the rest beyond chance


def test_what_is_next_has_the_threshold_to_copy(results: Results) -> None:
    table = results.curves.answered["adapter"].set_index("percent")
    said = advice(results)
    assert f"below a confidence of {table['threshold'][80]:.3f} to a person" in said
    assert f"gives {100 * table['accuracy'][80]:.1f} %" in said
    assert "bert-lora seeds 5" in said
    assert "seeds" not in advice(replace(results, seeds={"seeds": [1, 2]}))


def test_the_facts_and_what_was_left_out_are_those_of_the_run(results: Results) -> None:
    line = facts(replace(results, seeds={"seconds": 94.6}), "a base", "some data")
    assert "300,000 parameters trained, 22,700,000 in the encoder · 1.5 MB · 95 s to train" in line
    assert left_out({"rows_skipped": 3, "rows_rare": 0, "rows_source": 99}) == [
        "3 rows: skipped by an annotator"
    ]
