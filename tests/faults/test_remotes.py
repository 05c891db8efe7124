"""Faults of a remote: push and pull through a real SSH server, broken off and taken up again."""

from __future__ import annotations

import hashlib
import shutil
import signal
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
)
from tests.support.processes import Started

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(sshd.program() is None, reason="OpenSSH's server is not installed here"),
]
FILES, SIZE = 200, 50_000  # many small files, as checkpoints of a folder of texts have


@pytest.fixture(scope="module")
def server() -> Iterator[sshd.Server]:
    with sshd.server() as running:
        yield running


@pytest.fixture
def store(server: sshd.Server, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """Return the server's folder, empty, with this machine knowing the server."""
    shutil.rmtree(server.folder)
    server.folder.mkdir()
    monkeypatch.setenv("HOME", str(tmp_path))
    return server.folder


@pytest.fixture
def clone(dvc_project: Path, server: sshd.Server, store: Path) -> Path:
    """Work in a project with many files whose remote is the server."""
    assert store.is_dir()
    many = dvc_project / "many"  # beside what the stages read
    many.mkdir()
    for number in range(FILES):
        content = hashlib.sha256(str(number).encode()).digest() * (SIZE // 32)
        (many / f"{number}.bin").write_bytes(content)
    dvc("add", "-q", "many")
    dvc("remote", "add", "-d", "store", server.url)
    dvc("remote", "modify", "--local", "store", "keyfile", str(server.keyfile))
    return dvc_project


def transfer(verb: str) -> Started:
    return Started(sys.executable, "-m", "dvc", verb, "-j", "1")


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


@pytest.mark.parametrize("broken_by", ["kill", "network"])
def test_a_push_and_a_pull_that_are_broken_off_are_taken_up_again(
    clone: Path, server: sshd.Server, store: Path, broken_by: str
) -> None:
    run_successfully("git", "add", "-A")
    run_successfully("git", "commit", "-qm", "many files")
    before = file_hashes()
    break_off(transfer("push"), store, server, broken_by)
    assert 0 < len(objects(store)) < FILES
    assert_sound(store)
    dvc("push", "-q")
    assert len(objects(store)) > FILES
    assert dvc("status", "--cloud", "--json").strip() == "{}"
    assert_sound(store)

    forget_everything()
    assert not Path("many").exists()
    cache = clone / ".dvc/cache"
    break_off(transfer("pull"), cache, server, broken_by)
    assert_sound(cache)
    dvc("pull", "-q")
    after = file_hashes()
    del before[paths.PROVENANCE.as_posix()]  # neither git nor DVC keeps it
    assert {path: after.get(path) for path in before} == before
    assert dvc("status", "--json").strip() == "{}"
    assert bert_lora("verify").returncode == 0


def break_off(run: Started, into: Path, server: sshd.Server, broken_by: str) -> None:
    """Break a transfer off once some objects have arrived, and check that it did not end well."""
    assert_soon(lambda: len(objects(into)) >= 10)
    if broken_by == "kill":
        run.process.send_signal(signal.SIGKILL)
    else:
        assert server.drop_connections() > 0
    assert run.finish(120).returncode != 0


@pytest.mark.usefixtures("clone")
def test_a_remote_that_does_not_answer_is_named(server: sshd.Server) -> None:
    other = server.url.replace(f":{server.port}", ":9")  # where nobody listens
    dvc("remote", "modify", "store", "url", other)
    done = Started(sys.executable, "-m", "dvc", "push").finish(120)
    assert done.returncode != 0
    assert "127.0.0.1" in done.stdout
    assert "Traceback" not in done.stdout
