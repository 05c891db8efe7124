"""Faults around a run: other machines, users and locales, read-only folders, no network."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Iterator
from contextlib import chdir
from pathlib import Path

import pytest

from stages.core import paths
from tests.support.faults import (
    Run,
    assert_refused,
    assert_succeeded,
    bert_lora,
    call,
    dvc,
    file_hashes,
    mount_or_skip,
    run_successfully,
    stage,
)

STAGES = (
    *("prepare", "fetch_base", "evaluate_tfidf", "evaluate_base"),
    *("train_lora", "evaluate_adapter", "compare"),
)


# Runs all stages in one process, so that the libraries are imported once.
ALL_STAGES = f"""
from importlib import import_module
from stages.running.run import run_stage
for name in {STAGES!r}:
    try:
        run_stage(name, getattr(import_module("stages." + name), name))
    except SystemExit as end:
        if end.code:
            raise
"""


def tracked_hashes() -> dict[str, str]:
    """Return the sha256 of each file that git or DVC tracks."""
    return {
        path: sha
        for path, sha in file_hashes().items()
        if path.startswith(("data/", "metrics/", "models/")) and path != str(paths.PROVENANCE)
    }


@pytest.mark.slow
@pytest.mark.usefixtures("dvc_project")
def test_forced_runs_leave_nothing_to_commit() -> None:
    before = tracked_hashes()
    for number in range(2):
        assert_succeeded(Run(ALL_STAGES).finish())
        assert tracked_hashes() == before, f"run {number}"
        assert run_successfully("git", "status", "--porcelain") == ""
    dvc("repro", "--force")
    assert tracked_hashes() == before
    assert run_successfully("git", "status", "--porcelain") == ""
    assert dvc("status", "--json").strip() == "{}"


THREADS = {f"{name}_NUM_THREADS": "8" for name in ("OMP", "MKL", "OPENBLAS")}
SURROUNDINGS: dict[str, tuple[str, dict[str, str]]] = {  # what runs before the stages, variables
    "another time zone, locale and hash seed": (
        "",
        {"TZ": "Pacific/Chatham", "LC_ALL": "tr_TR.UTF-8", "PYTHONHASHSEED": "12345"},
    ),
    "another umask, no locale, more threads": (
        "os.umask(0o077)",
        {"LC_ALL": "C", "LANG": "C", "PYTHONHASHSEED": "1", **THREADS},
    ),
    "no home, no temporary folder": ("del os.environ['HOME']", {"TMPDIR": "/nonexistent"}),
    # The effective user is still root: another user may not be able to read Python itself.
    "another user": (
        "os.geteuid() or os.setresuid(65534, 0, 0)",
        {"HOME": "/nonexistent", "USER": "somebody", "LOGNAME": "somebody"},
    ),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", SURROUNDINGS)
def test_the_surroundings_of_a_run_change_no_byte(
    name: str, dvc_project: Path, tmp_path: Path
) -> None:
    """In another path and order of files, and in a new Python, which reads the variables."""
    before, (first, environment) = tracked_hashes(), SURROUNDINGS[name]
    elsewhere = tmp_path / "another place, with a sign: \u00e9"
    for path in sorted(dvc_project.rglob("*"), reverse=True):
        if path.is_file():
            copy = elsewhere / path.relative_to(dvc_project)
            copy.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(path, copy)
    with chdir(elsewhere):
        code = f"import os; {first or None}\n{ALL_STAGES}"
        assert_succeeded(call(sys.executable, "-c", code, **environment))
        assert tracked_hashes() == before


@pytest.fixture
def read_only_project(dvc_project: Path) -> Iterator[Path]:
    """Work in a project on a read-only file system."""
    os.chdir("/")
    mount_or_skip(dvc_project, "--bind", str(dvc_project))
    run_successfully("mount", "-o", "remount,ro,bind", str(dvc_project))
    os.chdir(dvc_project)
    yield dvc_project
    os.chdir("/")
    run_successfully("umount", str(dvc_project))


@pytest.mark.usefixtures("read_only_project")
def test_a_read_only_repository_is_named() -> None:
    assert_refused(stage("prepare"), 5, "models", "no permission", "make it writable")


@pytest.mark.usefixtures("dvc_project")
def test_a_cache_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    dvc("cache", "dir", "--local", str(tmp_path / "file" / "cache"))
    assert_refused(bert_lora("verify"), 5, str(tmp_path / "file" / "cache"))


WATCH = """
import os, sys, tempfile
allowed = [os.getcwd(), os.path.realpath(tempfile.gettempdir()), "/dev/", "/proc/"]
def watch(event, arguments):
    if event in ("socket.connect", "socket.getaddrinfo", "pickle.find_class"):
        print("FORBIDDEN", event, arguments, flush=True)
    if event == "open" and isinstance(arguments[0], str):
        path, mode, flags = arguments
        writes = flags & (os.O_WRONLY | os.O_RDWR | os.O_CREAT)
        real = os.path.realpath(path)
        if writes and not real.startswith(tuple(allowed)):
            print("FORBIDDEN", event, real, flush=True)
sys.addaudithook(watch)
"""


@pytest.mark.slow
@pytest.mark.usefixtures("dvc_project")
def test_a_run_opens_no_connection_and_writes_nowhere_else(tmp_path: Path) -> None:
    temporary = tmp_path / "temporary"
    temporary.mkdir()
    done = Run(WATCH + ALL_STAGES, TMPDIR=str(temporary), HF_HUB_OFFLINE="1").finish()
    assert "FORBIDDEN" not in assert_succeeded(done), done.stdout
    connect = WATCH + "import socket; socket.socket().connect(('127.0.0.1', 1))"
    assert "FORBIDDEN socket.connect" in Run(connect).finish().stdout  # the hook works
