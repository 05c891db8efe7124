"""Faults around a run: other machines, users and locales, read-only folders, no network."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import chdir
from pathlib import Path

import pytest

from stages.core import paths
from stages.core.params import load_params
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
from tests.support.tiny import save_params

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
def test_ten_forced_runs_leave_nothing_to_commit() -> None:
    before = tracked_hashes()
    for number in range(9):
        assert_succeeded(Run(ALL_STAGES).finish())
        assert tracked_hashes() == before, f"run {number}"
        assert run_successfully("git", "status", "--porcelain") == ""
    dvc("repro", "--force")
    assert tracked_hashes() == before
    assert run_successfully("git", "status", "--porcelain") == ""
    assert dvc("status", "--json").strip() == "{}"


def run_all_stages(**environment: str) -> None:
    """Run all stages in a new Python, which reads hash seed and locale when it starts."""
    assert_succeeded(call(sys.executable, "-c", ALL_STAGES, **environment))


@pytest.mark.slow
@pytest.mark.usefixtures("dvc_project")
@pytest.mark.parametrize(
    ("mask", "environment"),
    [
        (0o022, {"TZ": "Pacific/Chatham", "LC_ALL": "tr_TR.UTF-8", "PYTHONHASHSEED": "12345"}),
        (0o077, {"LC_ALL": "C", "LANG": "C", "OMP_NUM_THREADS": "1", "PYTHONHASHSEED": "1"}),
    ],
)
def test_another_time_zone_locale_hash_seed_and_umask_give_the_same_bytes(
    mask: int, environment: dict[str, str]
) -> None:
    before = tracked_hashes()
    umask = os.umask(mask)
    try:
        run_all_stages(**environment)
    finally:
        os.umask(umask)
    assert tracked_hashes() == before


@pytest.mark.slow
def test_another_path_file_order_and_thread_count_give_the_same_bytes(
    dvc_project: Path, tmp_path: Path
) -> None:
    before = tracked_hashes()
    elsewhere = tmp_path / "another place, with a sign: \u00e9"
    elsewhere.mkdir()
    for path in sorted(dvc_project.rglob("*"), reverse=True):  # in the reverse order
        if path.is_file():
            copy = elsewhere / path.relative_to(dvc_project)
            copy.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(path, copy)
    with chdir(elsewhere):
        run_all_stages(OMP_NUM_THREADS="8", MKL_NUM_THREADS="8", OPENBLAS_NUM_THREADS="8")
        assert tracked_hashes() == before


@pytest.mark.slow
@pytest.mark.usefixtures("dvc_project")
@pytest.mark.skipif(
    sys.platform != "linux" or os.geteuid() != 0, reason="only root can become another user"
)
def test_another_user_gives_the_same_bytes() -> None:
    """The effective user is still root: another user may not be able to read Python itself."""
    before = tracked_hashes()
    names = {"HOME": "/nonexistent", "USER": "somebody", "LOGNAME": "somebody"}
    assert_succeeded(Run("import os; os.setresuid(65534, 0, 0)\n" + ALL_STAGES, **names).finish())
    assert tracked_hashes() == before


@pytest.mark.slow
@pytest.mark.usefixtures("dvc_project")
def test_other_thread_counts_give_the_same_predictions() -> None:
    import pandas as pd

    def predicted() -> list[str]:
        return list(pd.read_csv(paths.ADAPTER_PREDICTIONS)["predicted"])

    before, current = predicted(), load_params()
    for threads in (2, 4):
        compute = current.compute.model_copy(update={"threads": threads})
        save_params(current.model_copy(update={"compute": compute}))
        assert_succeeded(Run(ALL_STAGES).finish())
        assert predicted() == before, f"{threads} threads"


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
def test_a_stage_runs_without_home_and_temporary_folder() -> None:
    before = tracked_hashes()
    environment = {k: v for k, v in os.environ.items() if k not in ("HOME", "TMPDIR", "TMP")}
    done = subprocess.run(
        [sys.executable, "-m", "stages", "prepare"],
        env={**environment, "TMPDIR": "/nonexistent", "PYTHONPATH": str(Path.cwd())},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert tracked_hashes() == before


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
