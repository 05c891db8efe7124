"""Every figure of the README is what the metrics files say, and what it names exists."""

import json
import re
from pathlib import Path
from typing import Any

import pytest
from ruamel.yaml import YAML

from stages.shared.params import LoraParams, Params

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")


def metrics(name: str) -> Any:
    return json.loads((ROOT / "metrics" / f"{name}.json").read_text(encoding="utf-8"))


def score_line(name: str, scores: dict[str, float]) -> str:
    return (
        f"| {name} | {100 * scores['accuracy']:.1f} % | {scores['f1_macro']:.3f} "
        f"| {scores['log_loss']:.3f} |"
    )


def gain(comparison: dict[str, float]) -> tuple[str, str]:
    low, high = 100 * comparison["accuracy_gain_low"], 100 * comparison["accuracy_gain_high"]
    return f"{100 * comparison['accuracy_gain']:+.1f} points", f"{low:.1f} to {high:.1f}"


def experiment_line(entry: dict[str, Any]) -> str:
    points, interval = gain(entry)
    minutes = "not timed" if entry["minutes"] is None else f"{entry['minutes']:.1f}"
    return (
        f"| {entry['setting']} | {100 * entry['accuracy_base']:.1f} % "
        f"| {100 * entry['accuracy_adapter']:.1f} % | {points}, {interval} | {minutes} |"
    )


def test_result_table() -> None:
    points, interval = gain(metrics("comparison"))
    assert f"| on {metrics('comparison')['rows']:,} held-out" in README
    assert score_line("base: frozen `all-MiniLM-L6-v2`, fitted head", metrics("base")) in README
    assert score_line("LoRA adapter on it", metrics("adapter")) in README
    assert f"| **gain** | **{points}**, 95 % interval {interval} | | |" in README


def test_cost_sentence() -> None:
    default = metrics("experiments")[0]
    assert f"{default['trainable_percent']:.2f} % of the parameters train" in README
    assert f"the adapter takes {default['adapter_mb']:.1f} MB" in README
    assert f"the whole run takes {default['minutes']:.1f} minutes" in README.replace("\n", " ")


def test_experiments_table_is_the_recorded_one() -> None:
    table = README.split("<!-- experiments")[1].split("\n\n")[0].splitlines()[3:]
    assert table == [experiment_line(entry) for entry in metrics("experiments")]


def test_recorded_default_run_is_the_committed_one() -> None:
    default, comparison = metrics("experiments")[0], metrics("comparison")
    assert {key: default[key] for key in comparison} == comparison


def test_metrics_diff_block() -> None:
    block = README.split("$ dvc metrics diff baseline\n")[1].split("```")[0]
    shown = re.findall(r"^(\S+)\s+(\w+)\s+(\S+)\s+(\S+)\s+(\S+)$", block, re.MULTILINE)[1:]
    base, adapter = metrics("base"), metrics("adapter")
    assert {key for _, key, *_ in shown} == {k for k in base if base[k] != adapter[k]}
    for path, key, old, new, change in shown:
        assert path == "metrics/adapter.json"
        assert float(old) == pytest.approx(base[key], abs=1e-5)
        assert float(new) == pytest.approx(adapter[key], abs=1e-5)
        assert float(change) == pytest.approx(adapter[key] - base[key], abs=2e-5)


def test_every_stage_and_lora_field_is_explained() -> None:
    stages = YAML(typ="safe").load(ROOT / "dvc.yaml")["stages"]
    assert re.findall(
        r"^\| `(\w+)` \| .* \| `(?:data|metrics|models)", README, re.MULTILINE
    ) == list(stages)
    fields = README.split("## The LoRA fields")[1].split("##")[0]
    assert set(
        re.findall(r"`(\w+)`", "".join(re.findall(r"^\| (.*?) \|", fields, re.MULTILINE)))
    ) == set(LoraParams.model_fields)


def test_params_and_paths_that_it_names_exist() -> None:
    for section, key in re.findall(r"-S (\w+)\.(\w+)=", README):
        assert key in Params.model_fields[section].annotation.model_fields
    for path in re.findall(r"\]\(([^)#]+)\)", README):
        assert (ROOT / path).exists(), path
