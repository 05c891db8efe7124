"""One process at a time runs a stage, and the kernel frees its lock however it ends."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from stages.core.errors import HostError
from stages.running.locks import lock_holder, lock_of, sole_run
from tests.support.faults import assert_soon
from tests.support.tiny import new_process

HOLD = """
import time
from stages.running.locks import sole_run
with sole_run("prepare"):
    print("held", flush=True)
    time.sleep(60)
"""
ENDING = """
import os, time
from stages.running.locks import end_with_dvc
end_with_dvc()
print(os.getpid(), flush=True)
time.sleep(60)
"""


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def holding() -> subprocess.Popen[str]:
    process = new_process(HOLD)
    assert process.stdout is not None
    assert process.stdout.readline() == "held\n"
    return process


def test_a_second_run_is_refused_and_names_the_first_each_time() -> None:
    first = holding()
    try:
        for _ in range(3):  # a refused run must not remove the first one's number
            assert lock_holder("prepare") == str(first.pid)
            with pytest.raises(HostError) as caught, sole_run("prepare"):
                pass
            assert str(caught.value) == (
                f"error: stage prepare: running already, process {first.pid}. "
                f"Fix: wait for it, or stop it: kill {first.pid}"
            )
        with sole_run("fetch_base"):
            assert lock_holder("fetch_base") == str(os.getpid())
    finally:
        first.kill()
        first.wait()


def test_the_lock_of_a_killed_run_is_free() -> None:
    first = holding()
    first.kill()
    first.wait()
    assert lock_holder("prepare") is None
    with sole_run("prepare"):
        assert lock_of("prepare").read_text(encoding="utf-8") == str(os.getpid())
    assert lock_holder("prepare") is None


def test_a_fault_frees_the_lock() -> None:
    with pytest.raises(KeyboardInterrupt), sole_run("prepare"):
        raise KeyboardInterrupt
    assert lock_holder("prepare") is None


def test_without_a_lock_file_nobody_holds_it() -> None:
    assert lock_holder("prepare") is None
    assert not lock_of("prepare").exists()


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells a child of its parent's end")
@pytest.mark.parametrize("shell", ["/bin/sh", "/bin/bash"])
def test_a_stage_started_by_exec_ends_with_the_process_that_started_the_shell(shell: str) -> None:
    command = f"exec {sys.executable} -c '{ENDING}'"
    parent = new_process(
        "import subprocess, sys\n"
        f"subprocess.run({command!r}, shell=True, executable={shell!r}, check=False)",
        DVC_STAGE="prepare",
    )
    assert parent.stdout is not None
    child = int(parent.stdout.readline())
    os.kill(parent.pid, signal.SIGKILL)
    parent.wait()
    assert_soon(lambda: not Path(f"/proc/{child}/exe").exists(), 5)
