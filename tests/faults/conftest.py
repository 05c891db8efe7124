"""A project under git and DVC, in which the tests provoke faults."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import chdir
from pathlib import Path

import pytest

from stages.core import paths
from stages.core.params import Params
from stages.reporting.contenders import NEEDED
from stages.reporting.records import CURVE_COLUMNS, SEARCH_COLUMNS
from tests.support.faults import assert_succeeded, dvc, run_successfully, stage
from tests.support.tiny import ROOT, save_params

COPIED = ("dvc.yaml", ".dvcignore", ".gitattributes", ".gitignore", "models/.gitignore")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark every test of this folder, so that `pytest -m faults` runs them all."""
    for item in items:
        if item.path.parent.name == "faults":
            item.add_marker(pytest.mark.faults)


@pytest.fixture(scope="session")
def finished_dvc_project(
    finished_run: Path, params: Params, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """Return a project under git and DVC after a run. Only read it: see `dvc_project`."""
    folder = tmp_path_factory.mktemp("dvc_project") / "project"
    shutil.copytree(finished_run, folder)
    shutil.copytree(
        ROOT / "stages", folder / "stages", ignore=shutil.ignore_patterns("__pycache__")
    )
    for name in COPIED:
        shutil.copy(ROOT / name, folder / name)
    with chdir(folder):
        empty = {
            paths.SEEDS: "[]",
            paths.SEARCH: "{}",
            paths.SEARCH_TABLE: ",".join(SEARCH_COLUMNS),
            paths.EXPORTS: "{}",
            paths.CURVE: ",".join(CURVE_COLUMNS),
            paths.METHODS: ",".join(sorted(NEEDED)),
        }
        paths.SEEDS.parent.mkdir(exist_ok=True)
        for path, text in empty.items():
            path.write_text(f"{text}\n", encoding="utf-8")
        shutil.copytree(params.model.source, "data/raw/model")
        source = {"source": "data/raw/model"}
        save_params(params.model_copy(update={"model": params.model.model_copy(update=source)}))
        assert_succeeded(stage("compare"))  # report and card name the model as params.yaml does
        run_successfully("git", "init", "-q")
        for key, value in (("user.name", "Test"), ("user.email", "test@example.org")):
            run_successfully("git", "config", key, value)
        dvc("init", "-q")
        shutil.copy(ROOT / ".dvc/config", ".dvc/config")
        shutil.copy(ROOT / ".dvcignore", ".dvcignore")
        dvc("commit", "--force", "-q")
        run_successfully("git", "add", "-A")
        run_successfully("git", "commit", "-qm", "a complete run")
        assert run_successfully("git", "status", "--porcelain") == ""
    return folder


@pytest.fixture
def dvc_project(finished_dvc_project: Path, tmp_path: Path) -> Iterator[Path]:
    """Work in a copy of the finished project, to break."""
    folder = tmp_path / "dvc_project"
    shutil.copytree(finished_dvc_project, folder, symlinks=True)
    with chdir(folder):
        yield folder
