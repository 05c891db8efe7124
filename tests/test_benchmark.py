"""The benchmark's script on a tiny model: each contender trains and scores, ratios are by turn."""

import json
from types import ModuleType

import pytest

from stages.core import paths
from tests.support.scripts import load_script


@pytest.fixture(scope="module")
def script() -> ModuleType:
    """Return the script that measures."""
    return load_script("benchmark")


@pytest.mark.usefixtures("project")
def test_every_contender_is_measured_and_put_into_a_table(
    script: ModuleType, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(script, "measured", lambda job, *rest: script.JOBS[job](*rest))
    weights = paths.ADAPTER_WEIGHTS.read_bytes()
    script.training(steps=2, repeats=1, seeds=1)
    results = json.loads(paths.BENCHMARK.read_text(encoding="utf-8"))
    for what in ("training", "scoring"):
        assert {"tutorial", "tuned", "ours"} <= set(results[what])
        assert min(found["median"] for found in results[what].values()) > 0
        assert results[what]["tuned"]["to_tuned"]["median"] == 1
    assert results["accuracy"]["validation"]["ours"][0] > 0.6  # a tenth of the labels are wrong
    assert paths.ADAPTER_WEIGHTS.read_bytes() == weights
    assert "\n| training: *ours* | " in capsys.readouterr().out


def test_ratios_are_those_within_a_turn(script: ModuleType) -> None:
    turns = [{"ours": {"x": a}, "tuned": {"x": b}} for a, b in ((10, 5), (40, 10), (30, 30))]
    found = script.summary(turns, "x", "ours", "tuned")
    assert (found["rows_per_second"], found["median"]) == ([10, 40, 30], 30)
    assert found["to_tuned"] == {"median": 2, "low": 1, "high": 4}
    found |= {"to_pipeline": found["to_tuned"], "p50_ms": 1, "p99_ms": 7.4}
    table = script.serving_table({"rows": 1000, "threads": 2, "contenders": {"int8": found}})
    assert table.splitlines()[-1] == "| *int8* | 30 | 2.0 (1.0 to 4.0) | 1.0 ms | 7.4 ms |"
