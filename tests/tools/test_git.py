"""Git's answers, and its refusals as one line."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from stages.core.errors import HostError
from stages.tools.git import git


def test_the_answer_is_what_git_prints(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    subprocess.run(["git", "init", "-q", "-b", "trunk"], check=True)
    assert git("symbolic-ref", "--short", "HEAD") == "trunk\n"


def test_outside_a_clone_it_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))
    with pytest.raises(HostError, match=r"git rev-parse: .* Fix: work in a git clone") as caught:
        git("rev-parse", "HEAD")
    assert len(str(caught.value).splitlines()) == 1
