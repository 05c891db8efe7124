"""The project and its models are found from any folder inside, and nowhere else."""

from __future__ import annotations

from pathlib import Path

import pytest

from stages.core import paths
from stages.tools.project import enter_models, enter_project
from tests.support.command import Command


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


def test_a_project_is_entered_from_a_folder_inside(clone: Path) -> None:
    enter_project()
    assert Path.cwd() == clone


def test_models_of_an_inner_folder_are_preferred_to_the_project(clone: Path) -> None:
    (clone / "a" / paths.ADAPTER).mkdir(parents=True)
    enter_models()
    assert Path.cwd() == clone / "a"


def test_without_an_adapter_the_project_is_entered(clone: Path) -> None:
    enter_models()
    assert Path.cwd() == clone


def test_without_adapter_and_project_the_working_folder_stays(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    enter_models()
    assert Path.cwd() == tmp_path
