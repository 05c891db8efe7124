"""Processes, DVC and checks for the tests of faults, which run the stages as a user does.

A fault must end in the right exit code, in one line that says what is wrong and how to fix it,
without a traceback, and without a lost file.
"""

from __future__ import annotations

import multiprocessing
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import chdir
from pathlib import Path
from typing import Any

import pytest
from filelock import FileLock, Timeout

from stages.core import paths
from stages.core.artefacts import sha256_of
from stages.core.errors import exit_code_of

LAST_LINE = re.compile(r"error: .+[.?] Fix: .+")


# Processes that start at once: they are forked from one that has imported the slow libraries.
FORKS = multiprocessing.get_context("forkserver")
FORKS.set_forkserver_preload(
    ["stages.training.trainer", "stages.scoring.logits", "stages.tools.cli", "pandas", "sklearn"]
)


class Run:
    """Python code that runs in a process of its own, in the current folder.

    Attributes:
        pid: the number of the process.
    """

    def __init__(self, code: str, **environment: str) -> None:
        handle, self._log = tempfile.mkstemp(prefix="run-", suffix=".log")
        os.close(handle)
        folder = str(Path.cwd())
        self._process = FORKS.Process(target=_enter, args=(code, folder, self._log, environment))
        with chdir("/"):  # the folder of the process that is forked
            self._process.start()
        self.pid = int(self._process.pid or 0)

    def finish(self, seconds: float = 120) -> subprocess.CompletedProcess[str]:
        """Wait for the end; return the exit code (minus the signal for a kill) and the output."""
        self._process.join(seconds)
        code, output = self._process.exitcode, Path(self._log).read_bytes()
        if code is None:
            self._process.kill()
        Path(self._log).unlink()
        text = output.decode("utf-8", "surrogateescape")
        assert code is not None, f"still running after {seconds} s:\n{text}"
        return subprocess.CompletedProcess([], code, text)

    def send(self, number: signal.Signals) -> None:
        """Send a signal."""
        os.kill(self.pid, number)


def _enter(code: str, folder: str, log: str, environment: dict[str, str]) -> None:
    os.chdir(folder)
    os.environ.update(environment)
    handle = os.open(log, os.O_WRONLY | os.O_APPEND)
    os.dup2(handle, 1)
    os.dup2(handle, 2)
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background ignores it
    sys.stdin = open(0, closefd=False)  # noqa: SIM115  # the process ends with it
    exec(compile(code, "<run>", "exec"), {"__name__": "__main__"})  # noqa: S102  # the test's own


def code_of_stage(stage: str) -> str:
    """Return the code that runs a stage as `python -m` does."""
    return (
        f"import runpy, sys; sys.argv = ['stages', {stage!r}]; "
        "runpy.run_module('stages', run_name='__main__')"
    )


def is_running(stage: str) -> bool:
    """Return whether a process holds the lock of a stage."""
    try:
        with FileLock(paths.MODELS / f".{stage}.lock", timeout=0):
            return False
    except Timeout:
        return True


def call(*command: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run a command in the current folder."""
    return subprocess.run(
        command,
        env={**os.environ, "PYTHONPATH": str(Path.cwd()), "COLUMNS": "200", **environment},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="surrogateescape",
        check=False,
    )


def mount_or_skip(folder: Path, *arguments: str) -> None:
    """Mount a file system on the folder; skip the test where mounting is not possible."""
    if sys.platform != "linux" or os.geteuid() != 0:
        pytest.skip("only root can mount")
    mounted = call("mount", *arguments, str(folder))
    if mounted.returncode:
        pytest.skip(f"no mount here: {mounted.stdout.strip()}")


def run_successfully(*command: str, **environment: str) -> str:
    """Run a command, check that it succeeds, and return what it prints."""
    done = call(*command, **environment)
    assert done.returncode == 0, done.stdout
    return done.stdout


def dvc(*arguments: str) -> str:
    """Run a DVC command, check that it succeeds, and return what it prints."""
    return run_successfully(sys.executable, "-m", "dvc", *arguments)


def stage(name: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run a stage in a process of its own."""
    return Run(code_of_stage(name), **environment).finish()


def bert_lora(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run `bert-lora` in a process of its own."""
    argv = ["bert-lora", *arguments]
    code = f"import sys; sys.argv = {argv!r}; from stages.tools.cli import main; main()"
    return Run(code, **environment).finish()


def assert_succeeded(done: subprocess.CompletedProcess[str]) -> str:
    """Check that a process ended with exit code 0, and return what it printed."""
    assert done.returncode == 0, done.stdout
    return done.stdout


def assert_refused(done: subprocess.CompletedProcess[str], code: int, *parts: str) -> str:
    """Check that a process ended as a user's mistake does, and return what it printed.

    Args:
        done: the process.
        code: the exit code it must have.
        parts: texts that its output must hold.
    """
    assert done.returncode == code, done.stdout
    assert "Traceback" not in done.stdout
    assert LAST_LINE.fullmatch(done.stdout.splitlines()[-1]), done.stdout
    for part in parts:
        assert part in done.stdout, done.stdout
    return done.stdout


def assert_ends(
    work: Callable[[], Any], capture: pytest.CaptureFixture[str], code: int, *parts: str
) -> str:
    """Check that a stage's function ends as a user's mistake does, and return what it printed.

    Args:
        work: the function, without arguments.
        capture: pytest's, which reads what is printed.
        code: the exit code it must have.
        parts: texts that its output must hold.
    """
    ended = exit_code_of(work)
    printed = capture.readouterr()
    output = printed.out + printed.err
    return assert_refused(subprocess.CompletedProcess([], ended, output), code, *parts)


def up_to_date() -> bool:
    """Return whether DVC itself finds that nothing has changed."""
    from dvc.repo import Repo

    with Repo() as repo:
        return not repo.status()


def assert_soon(condition: Callable[[], bool], seconds: float = 60) -> None:
    """Wait until the condition holds, and check that it does in time."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, f"not within {seconds} s"
        time.sleep(0.02)


def run_fix(output: str) -> None:
    """Run the command that the last line of an output gives, as a user would."""
    fix = output.splitlines()[-1].partition(" Fix: ")[2].removeprefix("run: ")
    run_in_shell(fix)


def return_to_last_commit(output: str) -> None:
    """Run the commands of verify that go back to the last commit; drop the stopped training."""
    run_in_shell(output.splitlines()[-1].partition("kept by git stash: ")[2])
    shutil.rmtree(paths.CHECKPOINTS)


def run_in_shell(line: str) -> str:
    """Run a line in a shell that finds dvc and bert-lora, and return what it prints."""
    scripts = str(Path(sys.executable).parent)
    return run_successfully("bash", "-c", line, PATH=f"{scripts}{os.pathsep}{os.environ['PATH']}")


def file_hashes() -> dict[str, str]:
    """Return the sha256 of each file of the current folder, without DVC's, git's and locks."""
    return {
        path.as_posix(): sha256_of(path)
        for path in sorted(Path().rglob("*"))
        if path.is_file()
        and not ({".dvc", ".git", "__pycache__"} & set(path.parts) or _is_stage_lock(path))
    }


def _is_stage_lock(path: Path) -> bool:
    return path.suffix == ".lock" and path.name.startswith(".")
