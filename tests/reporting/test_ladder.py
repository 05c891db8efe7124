"""The ladder and the figures of the comparison: order, intervals, where other runs stand."""

from typing import Any

import pytest

from stages.reporting.details import against_full, build_ladder
from stages.reporting.records import record_of
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


def test_the_rungs_are_sorted() -> None:
    found = build_ladder(BASE, TFIDF, 0.85, "lora", 1000, {}, "1.5 MB")
    assert found.index.tolist() == ["untrained", "majority", "base", "tfidf", "lora"]
    assert found["accuracy"].tolist() == [0.45, 0.5, 0.7, 0.75, 0.85]
    assert ((found["low"] < found["accuracy"]) & (found["accuracy"] < found["high"])).all()
    assert "sd 2.0 points" in found["note"]["untrained"]
    # Two standard deviations of 0.02.
    assert list(found.loc["untrained", ["low", "high"]]) == pytest.approx([0.41, 0.49])
    assert "L2 0.001 by validation" in found["note"]["base"]
    assert found["cost"].tolist()[-2:] == ["no encoder", "1.5 MB"]
    assert found["interval_over"].tolist() == ["heads", "rows", "rows", "rows", "rows"]
    level = build_ladder(BASE | {"accuracy": 0.5}, TFIDF | {"accuracy": 0.5}, 0.5, "lora", 9, {})
    assert level.index.tolist() == ["untrained", "majority", "tfidf", "base", "lora"]


def test_full_fine_tuning_is_a_rung_of_its_own() -> None:
    top = build_ladder(BASE, TFIDF, 0.85, "lora", 1000, {"full": FULL}).iloc[-1]
    assert list(top) == [
        *("full fine-tuning", 0.9, 0.88, 0.92),
        *("seeds", "mean of 2 seeds, bf16", "95 s a run"),
    ]
    run = build_ladder(BASE, TFIDF, 0.88, "full", 1000, {"lora": FULL | {"seeds": [7]}})
    assert run["note"].to_dict().items() >= {"full": "this run", "lora": "seed 7, bf16"}.items()
    assert run["interval_over"]["lora"] == "rows"


def test_several_seeds_of_the_method_take_the_place_of_the_run() -> None:
    record = FULL | {"accuracy_adapter_mean": 0.84, "accuracy_adapter_high": 1.03}
    rung = build_ladder(BASE, TFIDF, 0.85, "lora", 1000, {"lora": record}).loc["lora"]
    assert list(rung)[1:6] == [
        *(0.84, 0.88, 1.0, "seeds"),  # an accuracy is a share
        "mean of 2 seeds, bf16; this run 85.0 %",
    ]
    single = build_ladder(BASE, TFIDF, 0.85, "lora", 1000, {"lora": record | {"seeds": [3]}})
    assert list(single.loc["lora", ["accuracy", "note"]]) == [0.85, "this run"]


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
