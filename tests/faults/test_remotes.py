"""Faults of a remote: push and pull through a real SSH server, broken off and taken up again."""

from __future__ import annotations

import hashlib
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from stages.core import paths
from tests.support import sshd
from tests.support.faults import (
    assert_soon,
    bert_lora,
    dvc,
    file_hashes,
    run_successfully,
    up_to_date,
)
from tests.support.processes import Started

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(sshd.program() is None, reason="OpenSSH's server is not installed here"),
]
FILES, SIZE = 200, 50_000  # many small files, as checkpoints of a folder of texts have


@pytest.fixture
def store(dvc_project: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Path]:
    """Work in a project with many files; return the folder of the server that is its remote."""
    monkeypatch.setenv("HOME", str(tmp_path))
    many = dvc_project / "many"  # beside what the stages read
    many.mkdir()
    for number in range(FILES):
        content = hashlib.sha256(str(number).encode()).digest() * (SIZE // 32)
        (many / f"{number}.bin").write_bytes(content)
    with sshd.server() as server:
        dvc("add", "-q", "many")
        dvc("remote", "add", "-d", "store", server.url)
        dvc("remote", "modify", "--local", "store", "keyfile", str(server.keyfile))
        run_successfully("git", "add", "-A")
        run_successfully("git", "commit", "-qm", "many files")
        yield server.folder


def objects(folder: Path) -> list[Path]:
    """Return the objects of a cache or a remote; one that is still written has another name."""
    return [p for p in folder.rglob("*") if p.is_file() and len(p.name.removesuffix(".dir")) == 30]


def assert_sound(folder: Path) -> None:
    """Check that each object holds what its name says."""
    for path in objects(folder):
        name = path.parent.name + path.name.removesuffix(".dir")
        assert hashlib.md5(path.read_bytes()).hexdigest() == name  # noqa: S324  # DVC's own


def forget_everything() -> None:
    """Remove the cache and all that DVC tracks from the workspace."""
    for folder in (".dvc/cache", "data", "models", "metrics/predictions", "many"):
        shutil.rmtree(folder)
    run_successfully("git", "checkout", "-q", "--", "data", "models", "metrics")


def break_off(verb: str, into: Path) -> None:
    """Kill a transfer once some objects have arrived."""
    run = Started(sys.executable, "-m", "dvc", verb, "-j", "1")
    assert_soon(lambda: len(objects(into)) >= 10)
    run.process.kill()
    assert run.finish(120).returncode != 0
    assert_sound(into)


def test_a_push_and_a_pull_that_are_broken_off_are_taken_up_again(
    dvc_project: Path, store: Path
) -> None:
    before = file_hashes()
    break_off("push", store)
    assert 0 < len(objects(store)) < FILES
    dvc("push", "-q")
    assert len(objects(store)) > FILES
    assert dvc("status", "--cloud", "--json").strip() == "{}"
    assert_sound(store)

    forget_everything()
    assert not Path("many").exists()
    break_off("pull", dvc_project / ".dvc/cache")
    dvc("pull", "-q")
    after = file_hashes()
    del before[paths.PROVENANCE.as_posix()]  # neither git nor DVC keeps it
    assert {path: after.get(path) for path in before} == before
    assert up_to_date()
    assert bert_lora("verify").returncode == 0
