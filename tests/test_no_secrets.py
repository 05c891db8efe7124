"""The check for secrets that pre-commit and CI run: it finds tokens, and the project holds none."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

from ruamel.yaml import YAML

from tests.support.tiny import ROOT

TOKENS = {
    "hub": "hf_" + "a1B2" * 8,
    "github": "ghp_" + "a1B2" * 9,
    "gitlab": "glpat-" + "a1B2" * 5,
    "aws": "AKIA" + "A1B2" * 4,
    "password": "https://me:" + "a1B2c3" + "@example.org/data.csv",  # pragma: allowlist secret
    "key": "-----BEGIN RSA " + "PRIVATE KEY-----",
}


def hook() -> list[str]:
    """Return the command of the pre-commit hook."""
    repos = YAML(typ="safe").load(ROOT / ".pre-commit-config.yaml")["repos"]
    (found,) = [one for repo in repos for one in repo["hooks"] if one["id"] == "detect-secrets"]
    return [str(part) for part in (found["entry"], *found["args"])]


def check(*files: str | Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*hook(), *map(str, files)], cwd=ROOT, capture_output=True, text=True, check=False
    )


def test_a_token_in_params_is_found_before_it_is_committed(tmp_path: Path) -> None:
    text = (ROOT / "params.yaml").read_text(encoding="utf-8")
    files = []
    for kind, token in TOKENS.items():
        for number, line in enumerate(("  source: {}", 'source: "{}"')):
            files.append(tmp_path / f"{kind}{number}.yaml")
            files[-1].write_text(f"{text}\n{line.format(token)}\n", encoding="utf-8")
    done = check(*files)
    assert done.returncode == 1
    for file in files:
        assert re.search(rf"{file.name}:{text.count(chr(10)) + 2}\b", done.stdout), file.name


def test_the_settings_and_the_code_hold_no_secret() -> None:
    done = check("params.yaml", "dvc.yaml", "README.md", *ROOT.glob("stages/**/*.py"))
    assert done.returncode == 0, done.stdout


def test_ci_runs_the_hook_of_pre_commit() -> None:
    script = (ROOT / ".ci/run").read_text(encoding="utf-8")
    assert "git ls-files -z | xargs -0 " + " ".join(hook()) in script
