"""Every figure of the README is what the metrics files say, and what it names exists."""

import importlib.util
import json
import re
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML

from stages.core.params import LoraParams, Params, load_params
from stages.scoring.seed_records import settings_of

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")


def writer() -> Any:
    spec = importlib.util.spec_from_file_location("readme", ROOT / ".ci/readme.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_every_figure_stands_as_the_metrics_have_it() -> None:
    assert writer().filled(README) == README, "run: python .ci/readme.py"


def test_the_seeds_are_of_the_committed_data_and_settings() -> None:
    record = writer().default_seeds()
    comparison = json.loads((ROOT / "metrics/comparison.json").read_text(encoding="utf-8"))
    assert record["rows"] == comparison["rows"]
    assert record["settings"] == settings_of(load_params(ROOT / "params.yaml"))
    assert len(set(record["seeds"])) == len(record["seeds"]) >= 5


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
