"""A comparison in one sentence, p-values for people, and what the report answers."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from stages.compare import beside_accuracy
from stages.reporting.answer import advice, caveats, facts, left_out, use, weakest
from stages.reporting.results import Results, between, headline, points, shown_p
from stages.reporting.significance import Gain, paired_gain
from tests.support.example_results import example
from tests.support.tiny import shipped


def gain_of(**changes: float) -> Gain:
    values = {"rows": 1057, "fixed": 100, "broken": 34, "first": 0.75, "second": 0.8125}
    values |= {"low": 0.031, "high": 0.094, "p": 0.0042, "smallest": 0.02}
    return Gain(**(values | changes))  # type: ignore[arg-type]  # rows are whole numbers


LOST = {"fixed": 34, "broken": 100, "first": 0.8125, "second": 0.75, "low": -0.094, "high": -0.03}


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({}, "base 75.0 %, adapter 81.2 %: gain +6.2 points, 95 % interval 3.1 to 9.4, p = 0.004"),
        ({}, " on 1,057 rows (100 fixed, 34 broken); over TF-IDF (80.0 %) +1.2 points, 95 % inter"),
        ({"p": 0.049}, "34 broken); over"),
        ({"p": 0.05}, "34 broken): not distinguishable from zero; over"),
        (LOST, "gain -6.2 points, 95 % interval -9.4 to -3.0,"),
    ],
)
def test_the_headline_names_both_rivals(changes: dict[str, float], said: str) -> None:
    sentence = headline(gain_of(**changes), gain_of(first=0.8, p=0.2), [])
    assert said in sentence
    assert sentence.endswith("3.1 to 9.4, p = 0.200: not distinguishable from zero")


def test_the_headline_names_what_accuracy_hides() -> None:
    def said(common: int, cut: float) -> list[str]:
        classes = {"common": {"rows": common}, "rare": {"rows": 40}}
        scores: dict[str, dict[str, Any]] = {
            "adapter": {"by_class": classes, "f1_macro": 0.5},
            "base": {"f1_macro": 0.25},
        }
        return beside_accuracy(scores, {"lengths": [{"max_length": 128, "rows_cut": cut}]})

    both = ["macro F1 0.500, base 0.250", "128 tokens cut 25.0 % of the rows"]
    assert said(41, 0.25) == both
    assert headline(gain_of(), gain_of(), both).endswith(f"; {'; '.join(both)}")
    assert said(40, 0.1) == []


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
    # An end that decides is not rounded to zero.
    assert between(-0.0004, 0.12) == "-0.04 to 12.00"
    assert between(3e-6, 0.1) == "0.0003 to 10.0000"


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
        (BETTER, BETTER, "trained", "Yes: +6.2 points over the base, +6.2 over TF-IDF"),
        (BETTER, NOT_SHOWN, "trained", "It beats the base (+6.2 points"),
        (BETTER, WORSE, "trained", "No: TF-IDF, which needs no encoder, is better (-8.0"),
        (WORSE, BETTER, "trained", "No: the base, whose encoder is frozen, is better (-8.0"),
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


def test_the_weakest_class_is_named(results: Results) -> None:
    (unsure,) = [group for group in results.groups if group[1] == "below 60 %"]
    gains = {"no": gain_of(rows=500, second=0.9), "yes": gain_of(rows=500, second=0.6)}
    gains |= {"few": gain_of(rows=3, second=0.0)}
    groups = [*(("class", name, gain) for name, gain in gains.items()), unsure]
    assert (
        ". Weakest: the class yes (it finds 60.0 % of its rows). Least sure: the 92 rows below "
        "60 % confidence, 57.6 %"
    ) in weakest(replace(results, groups=groups))
    # None is worse than the rest beyond chance.
    assert ". No class is weaker than the rest beyond chance. Least sure" in weakest(results)


def test_what_is_next_has_the_threshold_to_copy(results: Results) -> None:
    table = results.curves["answered_adapter"].set_index("percent")
    read, hand_over, seeds = advice(results)
    wrong, left = results.gain.rows - results.gain.second * 1000, 800 * (1 - table["accuracy"][80])
    assert read.startswith("Read the 10 surest mistakes")
    assert hand_over == (
        f"Hand over: if a person takes the 200 rows below {100 * table['threshold'][80]:.1f} % "
        f"confidence, {wrong - left:.0f} of the {wrong:.0f} mistakes go with them and {left:.0f} "
        f"remain in the other 800 ({100 * table['accuracy'][80]:.1f} % right, read off these rows)"
    )
    assert seeds.startswith("Run bert-lora seeds 5")
    assert advice(replace(results, seeds={"seeds": [1, 2]})) == [read, hand_over]


def test_the_facts_and_what_was_left_out_are_those_of_the_run(results: Results) -> None:
    line = facts(replace(results, seeds={"seconds": 94.6}), "a base", "some data")
    assert line[-2].startswith(
        "adapter 1.5 MB (300,000 parameters), on top of an encoder of 22.7 M"
    )
    assert line[-1].startswith("95 s to train")
    assert left_out({"rows_skipped": 3, "rows_repeated": 1, "rows_rare": 0, "rows_source": 99}) == [
        "Rows that prepare left out or merged: 3 skipped, 1 repeated"
    ]
    assert left_out({"rows_rare": 0}) == []
