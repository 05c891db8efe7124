"""What stops a run is found, and comes with the command that repairs it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

import pytest

from stages.core import paths
from stages.running.dvc_files import Recorded
from stages.tools import doctor
from tests.support.model_files import MODEL, write_files
from tests.support.tiny import changed, save_params, shipped


@pytest.fixture(autouse=True)
def _inside(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def dead_process() -> int:
    """Return the number of a process that has ended."""
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    return process.pid


def write(path: Path, text: str) -> None:
    """Write a file, and its folder."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")


def test_a_damaged_lock_is_removed_by_the_command_given() -> None:
    assert list(doctor.lock_faults()) == []
    write(paths.RWLOCK, '{"data": 3}')
    ((what, fix),) = doctor.lock_faults()
    assert "damaged by a run that was killed" in what
    subprocess.run(fix, shell=True, check=True)  # noqa: S602  # as a user types it
    assert list(doctor.lock_faults()) == []


def test_only_a_lock_of_a_living_process_blocks(dead_process: int) -> None:
    write(paths.RWLOCK, json.dumps({"data": {"write": {"pid": dead_process}}}))
    assert list(doctor.lock_faults()) == []
    write(paths.RWLOCK, json.dumps({"data": {"read": [{"pid": os.getpid()}]}}))
    ((what, fix),) = doctor.lock_faults()
    assert f"held by process {os.getpid()}" in what
    assert fix.endswith(f"kill {os.getpid()}")


def test_leftovers_of_a_dead_process_are_named_and_the_only_copy_is_kept(dead_process: int) -> None:
    write(Path(f"metrics/.base.json.tmp-{os.getpid()}"), "still written")
    write(Path(f"metrics/.base.json.tmp-{dead_process}"), "half")
    write(Path(f"models/.adapter.tmp-{dead_process}.old/weights"), "the only copy")
    faults = dict(doctor.leftover_faults())
    half, old = f"metrics/.base.json.tmp-{dead_process}", f"models/.adapter.tmp-{dead_process}.old"
    assert faults == {
        f"{half}: left by a run that was killed": f"rm -r {half}",
        f"{old}: the only copy of models/adapter": f"mv {old} models/adapter",
    }


def test_an_output_that_the_cache_lacks_is_named() -> None:
    write(Path("out.txt"), "content")
    record = Recorded(Path("out.txt"), "train", "0" * 32, 7, True)
    assert list(doctor.object_faults([record], Path("cache"))) == [
        ("out.txt: the cache lacks it", "dvc commit --force train")
    ]


def test_a_run_that_does_not_fit_is_named() -> None:
    small, huge = (Recorded(Path("o"), "s", "0" * 32, size, True) for size in (1, 10**18))
    assert list(doctor.space_faults([small], Path("cache"))) == []
    faults = list(doctor.space_faults([huge], Path("cache")))
    assert len(faults) == 2  # the workspace, and the cache
    assert all("a run takes 1,000,000,000,020 MB" in what for what, _ in faults)


def test_only_other_versions_of_installed_packages_are_named() -> None:
    assert list(doctor.version_faults()) == []
    same = f"typer=={version('typer')}\nno-such-package==1.0\n"
    write(paths.CONSTRAINTS, same)
    assert list(doctor.version_faults()) == []
    write(paths.CONSTRAINTS, f"{same}rich==0.0.1\n")
    ((what, fix),) = doctor.version_faults()
    assert what == f"{paths.CONSTRAINTS}: rich {version('rich')}, not 0.0.1"
    assert fix == f"pip install -e . -c {paths.CONSTRAINTS}"


def test_a_local_model_that_changed_is_reported() -> None:
    mine = write_files(Path("mine"), MODEL)
    write_files(paths.BASE_MODEL, MODEL)
    save_params(changed(shipped(), model__source="mine"))
    assert list(doctor.changes()) == []
    (mine / "vocab.txt").write_bytes(b"other")
    (change,) = doctor.changes()
    assert change.startswith("mine has changed since models/base was copied from it (vocab.txt)")
