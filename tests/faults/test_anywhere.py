"""Rows 15, 54 and 55: the same bytes again and elsewhere; places that cannot be written to."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import chdir
from pathlib import Path

import pytest

from stages.core import paths
from stages.core.params import load_params
from tests.support.faults import Run, bert_lora, call, dvc, mount, refused, stage, tree, well
from tests.support.tiny import save_params

STAGES = (
    *("prepare", "fetch_base", "evaluate_tfidf", "evaluate_base"),
    *("train_lora", "evaluate_adapter", "compare"),
)


# All stages in one process, so that the libraries are imported once.
ALL = f"""
from importlib import import_module
from stages.running.stage import run_stage
for name in {STAGES!r}:
    try:
        run_stage(getattr(import_module("stages." + name), name))
    except SystemExit as end:
        if end.code:
            raise
"""


def kept() -> dict[str, str]:
    """Return the hashes of all that git and DVC keep."""
    return {
        path: sha
        for path, sha in tree().items()
        if path.startswith(("data/", "metrics/", "models/")) and path != str(paths.PROVENANCE)
    }


@pytest.mark.slow
@pytest.mark.usefixtures("dvc_project")
def test_row_15_ten_forced_runs_leave_nothing_to_commit() -> None:
    before = kept()
    for number in range(9):
        done = Run(ALL).finish()
        assert done.returncode == 0, done.stdout
        assert kept() == before, f"run {number}"
        assert well("git", "status", "--porcelain") == ""
    dvc("repro", "--force")
    assert kept() == before
    assert well("git", "status", "--porcelain") == ""
    assert dvc("status", "--json").strip() == "{}"


def new_run(**environment: str) -> None:
    """Run all stages in a process that starts anew: it reads hash seed and locale as it starts."""
    done = call(sys.executable, "-c", ALL, **environment)
    assert done.returncode == 0, done.stdout


@pytest.mark.slow
@pytest.mark.usefixtures("dvc_project")
def test_row_55_another_time_zone_locale_and_hash_seed_give_the_same_bytes() -> None:
    before = kept()
    new_run(TZ="Pacific/Chatham", LC_ALL="tr_TR.UTF-8", LANG="tr_TR.UTF-8", PYTHONHASHSEED="12345")
    assert kept() == before


@pytest.mark.slow
@pytest.mark.usefixtures("dvc_project")
def test_row_55_another_mask_and_a_plain_locale_give_the_same_bytes() -> None:
    before = kept()
    mask = os.umask(0o077)
    try:
        new_run(LC_ALL="C", LANG="C", OMP_NUM_THREADS="1", PYTHONHASHSEED="1")
    finally:
        os.umask(mask)
    assert kept() == before


@pytest.mark.slow
def test_row_55_another_path_order_of_files_and_thread_count_give_the_same_bytes(
    dvc_project: Path, tmp_path: Path
) -> None:
    before = kept()
    elsewhere = tmp_path / "another place, with a sign: \u00e9"
    elsewhere.mkdir()
    for path in sorted(dvc_project.rglob("*"), reverse=True):  # made in the other order
        if path.is_file():
            copy = elsewhere / path.relative_to(dvc_project)
            copy.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(path, copy)
    with chdir(elsewhere):
        new_run(OMP_NUM_THREADS="8", MKL_NUM_THREADS="8", OPENBLAS_NUM_THREADS="8")
        assert kept() == before


@pytest.mark.slow
@pytest.mark.usefixtures("dvc_project")
@pytest.mark.skipif(
    sys.platform != "linux" or os.geteuid() != 0, reason="only root can become another user"
)
def test_row_55_another_user_gives_the_same_bytes() -> None:
    """The effective user stays, since Python itself may lie where another cannot read."""
    before = kept()
    names = {"HOME": "/nonexistent", "USER": "somebody", "LOGNAME": "somebody"}
    ended = Run("import os; os.setresuid(65534, 0, 0)\n" + ALL, **names).finish()
    assert ended.returncode == 0, ended.stdout
    assert kept() == before


@pytest.mark.slow
@pytest.mark.usefixtures("dvc_project")
def test_row_55_with_other_thread_counts_the_predictions_are_equal() -> None:
    import pandas as pd

    def predicted() -> list[str]:
        return list(pd.read_csv(paths.ADAPTER_PREDICTIONS)["predicted"])

    before, current = predicted(), load_params()
    for threads in (2, 4):
        compute = current.compute.model_copy(update={"threads": threads})
        save_params(current.model_copy(update={"compute": compute}))
        ended = Run(ALL).finish()
        assert ended.returncode == 0, ended.stdout
        assert predicted() == before, f"{threads} threads"


@pytest.fixture
def read_only(dvc_project: Path) -> Iterator[Path]:
    """Make the project's file system one that takes no write."""
    os.chdir("/")
    mount(dvc_project, "--bind", str(dvc_project))
    well("mount", "-o", "remount,ro,bind", str(dvc_project))
    os.chdir(dvc_project)
    yield dvc_project
    os.chdir("/")
    well("umount", str(dvc_project))


def test_row_54_a_repository_that_takes_no_write_is_named(read_only: Path) -> None:
    assert read_only.is_dir()
    refused(stage("prepare"), 5, "models", "no permission", "make it writable")


@pytest.mark.usefixtures("dvc_project")
def test_row_54_without_home_and_with_no_temporary_folder_it_works() -> None:
    before = kept()
    environment = {k: v for k, v in os.environ.items() if k not in ("HOME", "TMPDIR", "TMP")}
    done = subprocess.run(
        [sys.executable, "-m", "stages.prepare"],
        env={**environment, "TMPDIR": "/nonexistent", "PYTHONPATH": str(Path.cwd())},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert kept() == before


@pytest.mark.usefixtures("dvc_project")
def test_row_54_a_cache_that_takes_no_write_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("", encoding="utf-8")
    dvc("cache", "dir", "--local", str(tmp_path / "file" / "cache"))
    refused(bert_lora("verify"), 5, str(tmp_path / "file" / "cache"))


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
def test_row_31_a_run_asks_no_network_and_writes_nowhere_else(
    dvc_project: Path, tmp_path: Path
) -> None:
    temporary = tmp_path / "temporary"
    temporary.mkdir()
    assert dvc_project.is_dir()
    done = Run(WATCH + ALL, TMPDIR=str(temporary), HF_HUB_OFFLINE="1").finish()
    assert done.returncode == 0, done.stdout
    assert "FORBIDDEN" not in done.stdout, done.stdout
    evil = WATCH + "import socket; socket.socket().connect(('127.0.0.1', 1))"
    assert "FORBIDDEN socket.connect" in Run(evil).finish().stdout  # the hook sees it


def test_every_row_of_the_plan_has_its_test() -> None:
    """Rows 1 to 58, each by a test function that carries its number."""
    text = "".join(p.read_text(encoding="utf-8") for p in Path(__file__).parent.glob("test_*.py"))
    rows = {int(number) for number in re.findall(r"def test_row_(\d\d)_", text)}
    assert rows == set(range(1, 59))
