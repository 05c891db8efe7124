"""A git and DVC project with one stage, which invents predictions: real revisions in seconds."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from stages.core.params import load_params
from tests.support.tiny import ROOT

MAKE = """
import random
from pathlib import Path
from ruamel.yaml import YAML

params = YAML(typ="safe").load(Path("params.yaml"))
Path("metrics/predictions").mkdir(parents=True, exist_ok=True)
for name, accuracy in (("base", 0.6), ("adapter", params["train"]["learning_rate"] * 800)):
    random_numbers = random.Random(f"{name} {params['seed'] if name == 'adapter' else 0}")
    lines = ["id,label,predicted,p_no,p_yes"]
    for number in range(params["data"]["limit"] or 200):
        label = ("no", "yes")[number % 2]
        predicted = label if random_numbers.random() < accuracy else ("yes", "no")[number % 2]
        shares = "0.8,0.2" if predicted == "no" else "0.2,0.8"
        lines.append(f"id{number},{label},{predicted},{shares}")
    Path(f"metrics/predictions/{name}.csv").write_text("\\n".join(lines) + "\\n")
Path("models/adapter").mkdir(parents=True, exist_ok=True)
manifest = '{"precision": "fp32", "base": {}, "made_of": {}}\\n'
Path("models/adapter/manifest.json").write_text(manifest)
"""
STAGE = """
stages:
  evaluate_adapter:
    cmd: python make.py
    deps: [make.py]
    params: [seed, data.limit, train.learning_rate]
    outs:
      - metrics/predictions/base.csv
      - metrics/predictions/adapter.csv
      - models/adapter/manifest.json
"""


def run_successfully(*command: str, folder: Path | None = None) -> str:
    """Run a command, check that it succeeds, and return what it prints."""
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout


def bert_lora(*arguments: str) -> subprocess.CompletedProcess[str]:
    """Run the command as a user does, in the current folder."""
    return subprocess.run(
        [sys.executable, "-m", "stages.tools.cli", *arguments],
        env={**os.environ, "PYTHONPATH": str(ROOT), "COLUMNS": "120"},
        capture_output=True,
        text=True,
    )


def set_param(old: str, new: str) -> None:
    """Change a line of the current folder's params.yaml."""
    content = Path("params.yaml").read_text(encoding="utf-8")
    assert f"{old}\n" in content
    Path("params.yaml").write_text(content.replace(f"{old}\n", f"{new}\n"), encoding="utf-8")


def commit(message: str) -> None:
    """Run the stage and commit everything."""
    run_successfully(sys.executable, "-m", "dvc", "repro", "-q")
    run_successfully("git", "add", "-A")
    run_successfully("git", "commit", "-qm", message)


def make(folder: Path) -> None:
    """Make the project, with tags before, one, two and small, and go into its folder."""
    folder.mkdir()
    os.chdir(folder)
    run_successfully("git", "init", "-q")
    for key, value in (("user.name", "Test"), ("user.email", "test@example.org")):
        run_successfully("git", "config", key, value)
    run_successfully(sys.executable, "-m", "dvc", "init", "-q")
    for name, content in (("make.py", MAKE), ("dvc.yaml", STAGE)):
        Path(name).write_text(content, encoding="utf-8")
    Path("params.yaml").write_bytes((ROOT / "params.yaml").read_bytes())
    Path("stages").mkdir()
    Path("stages/.gitkeep").touch()
    run_successfully("git", "add", "-A")
    run_successfully("git", "commit", "-qm", "before")
    run_successfully("git", "tag", "before")
    rate = load_params().train.learning_rate
    set_param(f"  learning_rate: {rate}", "  learning_rate: 0.0009")
    commit("one")
    run_successfully("git", "tag", "one")
    set_param("  learning_rate: 0.0009", "  learning_rate: 0.0011")
    commit("two")
    run_successfully("git", "tag", "two")
    set_param("  limit: null", "  limit: 100")
    commit("small")
    run_successfully("git", "tag", "small")
    set_param("  limit: 100", "  limit: null")
    commit("back")
