"""Experiments of the present commit, and the mark of its state that names them."""

from __future__ import annotations

from pathlib import Path

import pytest

from stages.core import paths
from stages.tools.experiments import experiments_of_head, state_of
from tests.support.small_project import run_successfully


@pytest.fixture(autouse=True)
def _clone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Make the working folder a git clone with one commit."""
    monkeypatch.chdir(tmp_path)
    run_successfully("git", "init", "-q")
    for key, value in (("user.name", "Test"), ("user.email", "test@example.org")):
        run_successfully("git", "config", key, value)
    Path("metrics").mkdir()
    for name in ("params.yaml", "README.md", "metrics/base.json"):
        Path(name).write_text("old\n", encoding="utf-8")
    run_successfully("git", "add", "-A")
    run_successfully("git", "commit", "-qm", "first")


def test_a_change_of_the_data_that_git_does_not_see_gives_another_name() -> None:
    Path(".git/info/exclude").write_text("data\n", encoding="utf-8")
    before = state_of(())
    file = paths.RAW / "mine.csv"
    file.parent.mkdir(parents=True)
    file.write_text("text,label\n", encoding="utf-8")
    first = state_of(())
    file.write_text("text,label\ngood,yes\n", encoding="utf-8")
    second = state_of(())
    file.unlink()
    assert len({before, first, second}) == 3
    assert state_of(()) == before


@pytest.mark.parametrize(
    ("name", "counts"), [("params.yaml", True), ("README.md", False), ("metrics/base.json", False)]
)
def test_only_a_change_that_a_run_depends_on_gives_another_name(name: str, counts: bool) -> None:
    before = state_of(())
    Path(name).write_text("new\n", encoding="utf-8")
    assert (state_of(()) != before) is counts


def test_overrides_give_another_name() -> None:
    assert state_of(("lora.r=4",))[1] != state_of(())[1]
    assert (
        state_of(("lora.r=4",))[0]
        == state_of(())[0]
        == run_successfully("git", "rev-parse", "HEAD").strip()
    )


def test_experiments_of_another_commit_do_not_count() -> None:
    first = run_successfully("git", "rev-parse", "HEAD").strip()
    run_successfully("git", "update-ref", f"refs/exps/{first[:2]}/{first[2:]}/seeds-1", "HEAD")
    assert experiments_of_head() == {"seeds-1"}
    run_successfully("git", "commit", "-q", "--allow-empty", "-m", "second")
    assert experiments_of_head() == set()
