"""Speeds as ratios: a turn of one contender is compared with the same turn of the others."""

from __future__ import annotations

from stages.tools.benchmark.measure import summary


def test_ratios_are_taken_turn_by_turn() -> None:
    speeds = {"ours": [10.0, 40.0, 30.0], "tutorial": [1.0, 2.0, 3.0], "tuned": [5.0, 10.0, 30.0]}
    found = summary("ours", speeds, limit=60.0)
    assert found["to_tutorial"] == {"median": 10, "low": 10, "high": 20}
    assert found["to_tuned"] == {"median": 2, "low": 1, "high": 4}
    assert (found["median"], found["share_of_limit"]) == (30, 0.5)
