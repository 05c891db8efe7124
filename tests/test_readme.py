"""Every figure of the README is the one of the metrics files, and what it names exists."""

import re
from itertools import pairwise
from typing import Any

import pytest
from ruamel.yaml import YAML

from stages.core.params import Params, load_params
from tests.support.recorder import leaves
from tests.support.scripts import load_script
from tests.support.tiny import ROOT

README = (ROOT / "README.md").read_text(encoding="utf-8")


def test_every_figure_is_the_one_of_the_metrics() -> None:
    script = load_script("readme")
    for name in script.BLOCKS:
        text = (ROOT / name).read_text(encoding="utf-8")
        assert script.filled(name) == text, "run: python .ci/readme.py"


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


def test_every_arrow_of_the_diagram_is_a_dependency() -> None:
    stages = YAML(typ="safe").load(ROOT / "dvc.yaml")["stages"]

    def outs(name: str) -> set[str]:
        listed = [*stages[name].get("outs", []), *stages[name].get("metrics", [])]
        return {path if isinstance(path, str) else next(iter(path)) for path in listed}

    lines = re.findall(r"^  (\w+(?: --> \w+)+)$", README, re.MULTILINE)
    arrows = [pair for line in lines for pair in pairwise(line.split(" --> "))]
    assert {name for pair in arrows for name in pair} == set(stages)
    for first, then in arrows:
        assert outs(first) & set(stages[then]["deps"]), (first, then)


def test_every_setting_has_a_comment_with_its_limits() -> None:
    comments: dict[str, str] = {}
    above, section = "", ""
    for line in (ROOT / "params.yaml").read_text(encoding="utf-8").splitlines():
        if comment := re.match(r" *#(.*)", line):
            above += comment[1]
        elif key := re.match(r"( *)(\w+):", line):
            section = section if key[1] else f"{key[2]}."
            comments[f"{section}{key[2]}" if key[1] else key[2]] = above
            above = ""
    for name in leaves(load_params(ROOT / "params.yaml")):
        model: Any = Params
        *sections, key_name = name.split(".")
        for part in sections:
            model = model.model_fields[part].annotation
        expected = model.model_fields[key_name].description
        for limit in re.findall(r"\d[\d.]*", expected):
            found = re.search(rf"(?<![\d.]){re.escape(limit)}(?!\d)", comments[name])
            assert found, f"{name}: {expected}"


@pytest.mark.parametrize("folder", ["", "data", "metrics", "models", ".github"])
def test_each_link_to_a_heading_finds_it(folder: str) -> None:
    page = ROOT / folder / ("CONTRIBUTING.md" if folder == ".github" else "README.md")
    for path, anchor in re.findall(r"\]\(([^():]*)#([^)]+)\)", page.read_text(encoding="utf-8")):
        text = (ROOT / folder / path if path else page).read_text(encoding="utf-8")
        headings = re.findall(r"^#+ (.+)$", re.sub(r"```.*?```", "", text, flags=re.S), re.M)
        slugs = [re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in headings]
        assert anchor in slugs, f"{page}: {path}#{anchor}"
