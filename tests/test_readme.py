"""Every figure of the README is the one of the metrics files, and what it names exists."""

import json
import re

import pytest
from ruamel.yaml import YAML

from stages.core.params import load_params
from stages.reporting.records import settings_of
from tests.support.recorder import leaves
from tests.support.scripts import load_script
from tests.support.tiny import ROOT

README = (ROOT / "README.md").read_text(encoding="utf-8")


def test_every_figure_is_the_one_of_the_metrics() -> None:
    script = load_script("readme")
    for name in script.BLOCKS:
        text = (ROOT / name).read_text(encoding="utf-8")
        assert script.filled(name) == text, "run: python .ci/readme.py"


def test_the_seeds_are_of_the_committed_data_and_settings() -> None:
    record = load_script("readme").default_seeds()
    if record is None:  # then the README speaks of the one run
        assert "**In this run LoRA on" in README
        return
    comparison = json.loads((ROOT / "metrics/comparison.json").read_text(encoding="utf-8"))
    assert record["rows"] == comparison["rows"]
    assert record["settings"] == settings_of(load_params(ROOT / "params.yaml"))
    assert len(set(record["seeds"])) == len(record["seeds"]) >= 5


def test_every_stage_is_explained() -> None:
    stages = YAML(typ="safe").load(ROOT / "dvc.yaml")["stages"]
    assert re.findall(
        r"^\| `(\w+)` \| .* \| `(?:data|metrics|models)", README, re.MULTILINE
    ) == list(stages)


@pytest.mark.parametrize("folder", ["", "data", "metrics", "models"])
def test_params_and_paths_that_it_names_exist(folder: str) -> None:
    readme = (ROOT / folder / "README.md").read_text(encoding="utf-8")
    for section, key in re.findall(r"-S (\w+)\.(\w+)=", readme):
        assert f"{section}.{key}" in leaves(load_params(ROOT / "params.yaml"))
    for path in re.findall(r"\]\((?!https:|\.\./\.\./actions)([^)#]+)\)", readme):
        assert (ROOT / folder / path).exists(), path
