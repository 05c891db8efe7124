"""A git and DVC project of one stage that makes up predictions: real revisions in seconds."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from tests.support.tiny import ROOT

MAKE = """
import random
from pathlib import Path
from ruamel.yaml import YAML

params = YAML(typ="safe").load(Path("params.yaml"))
Path("metrics/predictions").mkdir(parents=True, exist_ok=True)
for name, share in (("base", 0.6), ("adapter", params["train"]["learning_rate"] * 800)):
    chance = random.Random(f"{name} {params['seed'] if name == 'adapter' else 0}")
    lines = ["id,label,predicted,p_no,p_yes"]
    for number in range(params["data"]["limit"] or 200):
        label = ("no", "yes")[number % 2]
        said = label if chance.random() < share else ("yes", "no")[number % 2]
        lines.append(f"id{number},{label},{said},{'0.8,0.2' if said == 'no' else '0.2,0.8'}")
    Path(f"metrics/predictions/{name}.csv").write_text("\\n".join(lines) + "\\n")
Path("models/adapter").mkdir(parents=True, exist_ok=True)
Path("models/adapter/manifest.json").write_text('{"precision": "fp32"}\\n')
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


def call(*command: str, folder: Path | None = None) -> str:
    """Run a command that must succeed, and return what it prints."""
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
    assert old in content
    Path("params.yaml").write_text(content.replace(old, new), encoding="utf-8")


def commit(message: str) -> None:
    """Run the stage and commit everything."""
    call(sys.executable, "-m", "dvc", "repro", "-q")
    call("git", "add", "-A")
    call("git", "commit", "-qm", message)


def make(folder: Path) -> None:
    """Make the project in the folder, which becomes the current one: tags one, two and small."""
    folder.mkdir()
    os.chdir(folder)
    call("git", "init", "-q")
    for key, value in (("user.name", "Test"), ("user.email", "test@example.org")):
        call("git", "config", key, value)
    call(sys.executable, "-m", "dvc", "init", "-q")
    for name, content in (("make.py", MAKE), ("dvc.yaml", STAGE)):
        Path(name).write_text(content, encoding="utf-8")
    Path("params.yaml").write_bytes((ROOT / "params.yaml").read_bytes())
    Path("stages").mkdir()
    Path("stages/.gitkeep").touch()
    call("git", "add", "-A")
    call("git", "commit", "-qm", "before")
    call("git", "tag", "before")
    set_param("  learning_rate: 0.001", "  learning_rate: 0.0009")
    commit("one")
    call("git", "tag", "one")
    set_param("  learning_rate: 0.0009", "  learning_rate: 0.0011")
    commit("two")
    call("git", "tag", "two")
    set_param("  limit: null", "  limit: 100")
    commit("small")
    call("git", "tag", "small")
    set_param("  limit: 100", "  limit: null")
    commit("back")
