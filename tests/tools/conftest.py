"""Fixtures of the subcommands' tests."""

import shutil
from collections.abc import Iterator
from contextlib import chdir
from pathlib import Path

import pytest

from tests.support.command import Command
from tests.support.small_project import make


@pytest.fixture
def command(capsys: pytest.CaptureFixture[str]) -> Command:
    """Return `bert-lora` as a function of its arguments, run in the working folder."""
    return Command(capsys)


@pytest.fixture(scope="session")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a project with tags before, one, two and small."""
    folder = tmp_path_factory.mktemp("made") / "project"
    with chdir(Path.cwd()):
        make(folder)
    return folder


@pytest.fixture
def _inside(made: Path, tmp_path: Path) -> Iterator[None]:
    """Work in a copy of it."""
    shutil.copytree(made, tmp_path / "copy", symlinks=True)
    with chdir(tmp_path / "copy"):
        yield
