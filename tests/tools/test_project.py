"""The project is found from any folder inside; its git clone and experiments answer."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from stages.core import paths
from stages.core.errors import HostError
from stages.running.dvc import git
from stages.tools.project import enter_models, enter_project, experiments_of_head, state_of
from tests.support.command import Command
from tests.support.small_project import run_successfully


@pytest.fixture
def clone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return an empty project, whose subfolder a/b is the working folder."""
    folder = tmp_path / "clone"
    for name in ("stages", "a/b"):
        (folder / name).mkdir(parents=True)
    (folder / "dvc.yaml").touch()
    monkeypatch.chdir(folder / "a/b")
    return folder


@pytest.mark.parametrize("name", ["compare", "seeds", "verify"])
def test_outside_a_project_a_subcommand_ends_in_one_line(
    command: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    (tmp_path / "dvc.yaml").touch()
    monkeypatch.chdir(tmp_path)
    result = command(name, *(["2"] if name == "seeds" else []))
    assert result.code == 5
    assert "neither this folder nor one above it holds dvc.yaml and stages/" in result.err
    assert result.err.count("\n") == 1


@pytest.mark.parametrize(
    ("enter", "adapter", "entered"),
    [
        (enter_project, "a", "."),
        (enter_models, "a", "a"),  # rather than the project
        (enter_models, None, "."),
    ],
)
def test_the_nearest_folder_that_serves_is_entered(
    clone: Path, enter: Callable[[], None], adapter: str | None, entered: str
) -> None:
    if adapter:
        (clone / adapter / paths.ADAPTER).mkdir(parents=True)
    enter()
    assert Path.cwd() == clone / entered


def test_outside_a_clone_it_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))
    with pytest.raises(HostError, match=r"git rev-parse: .* Fix: work in a git clone") as caught:
        git("rev-parse", "HEAD")
    assert len(str(caught.value).splitlines()) == 1


@pytest.fixture
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


@pytest.mark.usefixtures("_clone")
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
    assert len({before, first, second, state_of(("lora.r=4",))}) == 4
    assert before[0] == git("rev-parse", "HEAD").strip()
    assert state_of(()) == before


@pytest.mark.usefixtures("_clone")
@pytest.mark.parametrize(
    ("name", "counts"), [("params.yaml", True), ("README.md", False), ("metrics/base.json", False)]
)
def test_only_a_change_that_a_run_depends_on_gives_another_name(name: str, counts: bool) -> None:
    before = state_of(())
    Path(name).write_text("new\n", encoding="utf-8")
    assert (state_of(()) != before) is counts


@pytest.mark.usefixtures("_clone")
def test_experiments_of_another_commit_do_not_count() -> None:
    first = run_successfully("git", "rev-parse", "HEAD").strip()
    run_successfully("git", "update-ref", f"refs/exps/{first[:2]}/{first[2:]}/seeds-1", "HEAD")
    assert experiments_of_head() == {"seeds-1"}
    run_successfully("git", "commit", "-q", "--allow-empty", "-m", "second")
    assert experiments_of_head() == set()
