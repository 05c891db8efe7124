"""The ladder and the figures of the comparison: order, intervals, where other runs stand."""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from stages.reporting.ladder import (
    against_full,
    build_ladder,
    comparison_figures,
    write_ladder,
)
from stages.reporting.records import record_of
from stages.reporting.significance import paired_gain
from tests.support.predictions import frame

BASE = {"accuracy": 0.7, "majority": 0.5, "untrained": 0.45, "untrained_sd": 0.02, "l2": 0.001}
TFIDF = {"accuracy": 0.75, "ngrams": 2, "c": 10.0}
FULL = {
    "seeds": [1, 2],
    "precision": "bf16",
    "accuracy_adapter_mean": 0.9,
    "accuracy_adapter_low": 0.88,
    "accuracy_adapter_high": 0.92,
    "seconds": 95.2,
}


def test_the_comparison_of_a_case_by_hand() -> None:
    base = np.array([True] * 5 + [False] * 5)
    adapter = np.array([False] + [True] * 8 + [False])
    tfidf = np.array([True] * 9 + [False])
    found = comparison_figures(paired_gain(base, adapter), paired_gain(tfidf, adapter))
    assert (found["rows"], found["fixed"], found["broken"]) == (10, 4, 1)
    assert (found["accuracy_base"], found["accuracy_adapter"]) == (0.5, 0.8)
    assert found["accuracy_gain"] == pytest.approx(0.3)
    assert found["accuracy_base_low"] == pytest.approx(0.236593)  # Wilson, 5 of 10
    assert found["mcnemar_p"] == 0.375  # 2 * (1 + 5) / 2**5
    assert (found["accuracy_tfidf"], found["accuracy_gain_tfidf"]) == (0.9, -0.1)
    assert (found["fixed_tfidf"], found["broken_tfidf"], found["mcnemar_p_tfidf"]) == (0, 1, 1)
    none, every = np.zeros(100, dtype=bool), np.ones(100, dtype=bool)
    tiny = comparison_figures(paired_gain(none, every), paired_gain(none, every))
    assert 0 < tiny["mcnemar_p"] < 1e-29  # not rounded to zero


def test_the_rungs_are_sorted_and_each_step_is_from_the_rung_below() -> None:
    found = build_ladder(BASE, TFIDF, 0.85, "lora", 1000, {}, "1.5 MB")
    assert [rung.key for rung in found] == ["untrained", "majority", "base", "tfidf", "lora"]
    assert [rung.step for rung in found] == pytest.approx([0, 0.05, 0.2, 0.05, 0.1])
    assert [rung.share for rung in found] == pytest.approx([0, 0.125, 0.5, 0.125, 0.25])
    assert all(rung.low < rung.accuracy < rung.high for rung in found)
    assert "sd 2.0 points" in found[0].note
    assert (found[0].low, found[0].high) == pytest.approx((0.41, 0.49))  # two sds of 0.02
    assert "L2 0.001 by validation" in found[2].note
    assert [rung.cost for rung in found[-2:]] == ["no encoder", "1.5 MB"]
    assert [r.interval_over for r in found] == ["heads", "rows", "rows", "rows", "rows"]


@pytest.mark.parametrize(
    ("majority", "untrained", "tfidf", "base", "adapter"),
    [(0.873, 0.529, 0.987, 0.993, 0.987), (0.5, 0.5, 0.5, 0.5, 0.5), (0.9, 0.2, 0.5, 0.4, 0.3)],
)
def test_a_share_of_the_way_is_one(
    majority: float, untrained: float, tfidf: float, base: float, adapter: float
) -> None:
    floors = {**BASE, "majority": majority, "untrained": untrained, "accuracy": base}
    found = build_ladder(floors, {**TFIDF, "accuracy": tfidf}, adapter, "lora", 150, {})
    assert all(0 <= rung.share <= 1 for rung in found)


def test_full_fine_tuning_is_a_rung_of_its_own() -> None:
    found = build_ladder(BASE, TFIDF, 0.85, "lora", 1000, {"full": FULL})
    top = found[-1]
    assert (top.key, top.accuracy, top.note) == ("full", 0.9, "mean of 2 seeds, bf16")
    assert (top.low, top.high, top.interval_over, top.cost) == (0.88, 0.92, "seeds", "95 s a run")
    run = build_ladder(BASE, TFIDF, 0.88, "full", 1000, {"lora": FULL | {"seeds": [7]}})
    assert {rung.key: rung.note for rung in run[-2:]} == {
        "full": "this run",
        "lora": "seed 7, bf16",
    }
    assert run[-1].interval_over == "rows"


def test_several_seeds_of_the_method_take_the_place_of_the_run() -> None:
    record = FULL | {"accuracy_adapter_mean": 0.84, "accuracy_adapter_high": 1.03}
    rung = build_ladder(BASE, TFIDF, 0.85, "lora", 1000, {"lora": record})[-1]
    assert (rung.key, rung.accuracy, rung.interval_over) == ("lora", 0.84, "seeds")
    assert rung.note == "mean of 2 seeds, bf16; this run 85.0 %"
    assert (rung.low, rung.high) == (0.88, 1.0)  # an accuracy is a share
    single = build_ladder(BASE, TFIDF, 0.85, "lora", 1000, {"lora": record | {"seeds": [3]}})
    assert (single[-1].accuracy, single[-1].note) == (0.85, "this run")


def record(rights: list[int], precision: str = "fp32", rows: int = 2000) -> dict[str, Any]:
    """Return a record in which each seed has the first so many rows right."""
    frames = [frame([True] * right + [False] * (rows - right)) for right in rights]
    seeds = list(range(len(rights)))
    return record_of(seeds, frames, frames) | {"precision": precision}


@pytest.mark.parametrize(
    ("own", "full", "words"),
    [
        ([1700, 1704, 1696], [1740, 1744, 1736], "-2.0 points"),
        ([1700, 1720, 1680], [1710, 1720, 1700], "(the seeds limit it), not distinguishable"),
        ([1700, 1700], [1700, 1700], "+0.0 points, 95 % interval -0.2 to 0.2 (the test rows"),
        ([1700, 1700], [1703, 1703], "(the test rows limit it), not distinguishable"),
    ],
)
def test_two_methods_are_told_apart_over_seeds_and_rows(
    own: list[int], full: list[int], words: str
) -> None:
    sentence = against_full({"lora": record(own), "full": record(full)}, "lora")
    assert sentence is not None
    assert words in sentence
    assert sentence.endswith("not distinguishable") == ("-2.0" not in words)


def test_there_is_no_verdict_without_several_seeds_in_one_precision() -> None:
    lora, full = record([1700, 1704]), record([1740, 1744])
    assert against_full({"lora": lora, "full": full}, "lora") is not None
    assert against_full({"lora": lora, "full": full}, "full") is None
    assert against_full({"lora": lora}, "lora") is None
    assert against_full({"lora": lora, "full": record([1740])}, "lora") is None
    assert against_full({"lora": lora, "full": record([1740, 1744], "bf16")}, "lora") is None


def test_it_is_written_as_a_table(tmp_path: Path) -> None:
    rungs = build_ladder(BASE, TFIDF, 0.85, "lora", 1000, {})
    write_ladder(rungs, tmp_path / "x.csv")
    table = pd.read_csv(tmp_path / "x.csv")
    assert table["rung"].tolist() == [rung.name for rung in rungs]
    assert table["accuracy"].tolist() == [0.45, 0.5, 0.7, 0.75, 0.85]
