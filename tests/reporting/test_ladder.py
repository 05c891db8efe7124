"""The ladder: its order, its steps, and where a result of another run stands."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from stages.reporting.ladder import NAMES, against_full, beta_interval, build_ladder, write_ladder

BASE = {"accuracy": 0.7, "majority": 0.5, "untrained": 0.45, "untrained_sd": 0.02, "l2": 0.001}
TFIDF = {"accuracy": 0.75, "ngrams": 2, "c": 10.0}
FULL = {
    "seeds": [1, 2],
    "precision": "bf16",
    "accuracy_adapter_mean": 0.9,
    "accuracy_adapter_low": 0.88,
    "accuracy_adapter_high": 0.92,
}


def test_each_step_is_from_the_rung_before() -> None:
    found = build_ladder(BASE, TFIDF, 0.85, "lora", 1000, {})
    assert [rung.key for rung in found] == ["majority", "untrained", "tfidf", "base", "lora"]
    assert [rung.accuracy for rung in found] == [0.5, 0.45, 0.75, 0.7, 0.85]
    assert [rung.step for rung in found] == pytest.approx([0, -0.05, 0.3, -0.05, 0.15])
    assert [rung.share for rung in found] == pytest.approx([0, -1 / 7, 6 / 7, -1 / 7, 3 / 7])
    assert all(rung.low < rung.accuracy < rung.high for rung in found)
    assert "sd 2.0 points" in found[1].note


def test_full_fine_tuning_is_the_upper_rung() -> None:
    found = build_ladder(BASE, TFIDF, 0.85, "lora", 1000, {"full": FULL})
    assert (found[-1].key, found[-1].accuracy, found[-1].note) == (
        "full",
        0.9,
        "mean of 2 seeds, bf16",
    )
    run = build_ladder(BASE, TFIDF, 0.88, "full", 1000, {"lora": FULL | {"seeds": [7]}})
    assert [(rung.key, rung.note) for rung in run[-2:]] == [
        ("lora", "seed 7, bf16"),
        ("full", "this run"),
    ]


def test_several_seeds_of_the_method_take_the_place_of_the_run() -> None:
    record = FULL | {"accuracy_adapter_mean": 0.84}
    found = build_ladder(BASE, TFIDF, 0.85, "lora", 1000, {"lora": record})
    rung = found[-1]
    assert (rung.key, rung.accuracy, rung.interval_over) == ("lora", 0.84, "seeds")
    assert rung.note == "mean of 2 seeds, bf16; this run 85.0 %"
    single = build_ladder(BASE, TFIDF, 0.85, "lora", 1000, {"lora": record | {"seeds": [3]}})
    assert (single[-1].accuracy, single[-1].note) == (0.85, "this run")


@pytest.mark.parametrize(
    ("own", "full", "words"),
    [
        ([0.85, 0.852, 0.848], [0.87, 0.872, 0.868], "-2.0 points, 95 % interval -2.5 to -1.5"),
        ([0.85, 0.86, 0.84], [0.855, 0.86, 0.85], "-0.5 points, 95 % interval -2.6 to +1.6"),
        ([0.85, 0.85], [0.85, 0.85], "+0.0 points, 95 % interval +0.0 to +0.0"),
    ],
)
def test_two_methods_are_told_apart_over_their_seeds(
    own: list[float], full: list[float], words: str
) -> None:
    records = {
        name: {
            "seeds": list(range(len(values))),
            "accuracy_adapter": values,
            "accuracy_adapter_mean": sum(values) / len(values),
        }
        for name, values in (("lora", own), ("full", full))
    }
    sentence = against_full(records, "lora")
    assert sentence is not None
    assert words in sentence
    assert sentence.endswith("not distinguishable") == ("-2.0" not in words)
    assert against_full(records, "full") is None
    assert against_full({"lora": records["lora"]}, "lora") is None
    assert against_full(records | {"full": {**records["full"], "seeds": [1]}}, "lora") is None


def test_a_way_of_no_length_has_no_shares() -> None:
    flat = {**BASE, "accuracy": 0.5, "untrained": 0.5}
    found = build_ladder(flat, {**TFIDF, "accuracy": 0.5}, 0.5, "lora", 10, {})
    assert [rung.share for rung in found] == [0, 0, 0, 0, 0]


def test_it_is_written_as_a_table(tmp_path: Path) -> None:
    write_ladder(build_ladder(BASE, TFIDF, 0.85, "lora", 1000, {}), tmp_path / "x.csv")
    frame = pd.read_csv(tmp_path / "x.csv")
    assert frame["rung"].tolist() == [
        NAMES[key] for key in ("majority", "untrained", "tfidf", "base", "lora")
    ]
    assert frame["accuracy"].tolist() == [0.5, 0.45, 0.75, 0.7, 0.85]


def test_each_interval_says_what_it_is_over() -> None:
    rungs = {r.key: r for r in build_ladder(BASE, TFIDF, 0.85, "lora", 1000, {"full": FULL})}
    assert {key: rung.interval_over for key, rung in rungs.items()} == {
        **dict.fromkeys(("majority", "tfidf", "base", "lora"), "rows"),
        "untrained": "heads",
        "full": "seeds",
    }
    assert (rungs["full"].low, rungs["full"].high) == (0.88, 0.92)
    lone = build_ladder(BASE, TFIDF, 0.85, "lora", 1000, {"full": FULL | {"seeds": [7]}})[-1]
    assert lone.interval_over == "rows"
    assert lone.low < 0.88


def test_the_note_of_the_base_names_the_penalty_of_its_head() -> None:
    (base,) = [r for r in build_ladder(BASE, TFIDF, 0.85, "lora", 9, {}) if r.key == "base"]
    assert "L2 0.001 by validation" in base.note


@pytest.mark.parametrize("mean", [0.01, 0.1, 0.35, 0.5, 0.9, 0.99])
@pytest.mark.parametrize("sd", [0.001, 0.02, 0.1, 0.3, 0.49])
def test_the_interval_of_untrained_heads_is_one_of_shares(mean: float, sd: float) -> None:
    low, high = beta_interval(mean, sd)
    assert 0 <= low <= mean <= high <= 1 or sd > 0.25
    assert 0 <= low < high <= 1
    if sd < 0.3 * min(mean, 1 - mean):  # far from both ends it is nearly a normal distribution's
        assert low == pytest.approx(mean - 1.96 * sd, abs=0.35 * sd)
        assert high == pytest.approx(mean + 1.96 * sd, abs=0.35 * sd)


def test_the_interval_of_untrained_heads_holds_95_percent_of_what_it_describes() -> None:
    heads = np.random.default_rng(0).beta(2, 3, size=20_000)
    low, high = beta_interval(float(heads.mean()), float(heads.std()))
    assert np.mean((low <= heads) & (heads <= high)) == pytest.approx(0.95, abs=0.01)


def test_heads_that_all_score_the_same_have_no_spread() -> None:
    assert beta_interval(0.5, 0.0) == (0.5, 0.5)
    assert beta_interval(1.0, 0.0) == (1.0, 1.0)
    assert beta_interval(0.5, 0.527) == (0.0, 1.0)  # five of ten heads all right, five all wrong


def test_the_interval_over_seeds_is_one_of_shares() -> None:
    record = FULL | {"accuracy_adapter_mean": 0.99, "accuracy_adapter_high": 1.03}
    rungs = build_ladder(BASE, TFIDF, 0.85, "lora", 1000, {"full": record})
    assert (rungs[-1].low, rungs[-1].high) == (0.88, 1.0)
    record["accuracy_adapter_low"] = -0.2
    assert build_ladder(BASE, TFIDF, 0.85, "lora", 9, {"full": record})[-1].low == 0.0
