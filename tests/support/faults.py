"""Real faults in a real project: git, DVC, the stages as processes, and a tiny model.

The tests are numbered; each provokes one fault and checks what the user sees: the exit code, one
line that says what is wrong and how to mend it, no traceback, and nothing lost.
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
from collections.abc import Callable, Iterator
from contextlib import chdir
from pathlib import Path

import pytest

from stages.core import paths
from stages.core.artefacts import sha256_of
from stages.core.params import Params
from tests.support.tiny import ROOT, save_params

LAST_LINE = re.compile(r"error: .+[.?] Fix: .+")
KEPT = ("dvc.yaml", ".dvcignore", ".gitignore", "metrics/seeds.json", "models/.gitignore")


# Processes of their own that start at once: forked from one that has imported what takes seconds.
FORKS = multiprocessing.get_context("forkserver")
FORKS.set_forkserver_preload(
    ["stages.training.trainer", "stages.scoring.logits", "stages.tools.cli", "pandas", "sklearn"]
)


class Run:
    """Python code running in a process of its own, in the current folder.

    Attributes:
        pid: the process.
    """

    def __init__(self, code: str, **environment: str) -> None:
        handle, self._log = tempfile.mkstemp(prefix="run-", suffix=".log")
        os.close(handle)
        where = str(Path.cwd())
        self._process = FORKS.Process(target=_enter, args=(code, where, self._log, environment))
        with chdir("/"):  # where the process that is forked from stands
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
        assert code is not None, f"waited in vain for the end of:\n{text}"
        return subprocess.CompletedProcess([], code, text)

    def send(self, number: signal.Signals) -> None:
        """Send a signal."""
        os.kill(self.pid, number)


def _enter(code: str, where: str, log: str, environment: dict[str, str]) -> None:
    os.chdir(where)
    os.environ.update(environment)
    handle = os.open(log, os.O_WRONLY | os.O_APPEND)
    os.dup2(handle, 1)
    os.dup2(handle, 2)
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background ignores it
    sys.stdin = open(0, closefd=False)  # noqa: SIM115  # the process ends with it
    exec(compile(code, "<run>", "exec"), {"__name__": "__main__"})  # noqa: S102  # the test's own


def run_of(stage: str) -> str:
    """Return the code that runs a stage as `python -m` does."""
    return f"from stages import {stage} as it; it.run_stage(it.{stage})"


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark every test of this folder, so that `pytest -m faults` runs them all."""
    for item in items:
        if item.path.parent.name == "faults":
            item.add_marker(pytest.mark.faults)


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


def mount(folder: Path, *arguments: str) -> None:
    """Mount a file system on the folder; skip the test where that is not to be had."""
    if sys.platform != "linux" or os.geteuid() != 0:
        pytest.skip("only root can mount")
    mounted = call("mount", *arguments, str(folder))
    if mounted.returncode:
        pytest.skip(f"no mount here: {mounted.stdout.strip()}")


def well(*command: str, **environment: str) -> str:
    """Run a command that must succeed, and return what it prints."""
    done = call(*command, **environment)
    assert done.returncode == 0, done.stdout
    return done.stdout


def dvc(*arguments: str) -> str:
    """Run a DVC command that must succeed, and return what it prints."""
    return well(sys.executable, "-m", "dvc", *arguments)


def stage(name: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run a stage in a process of its own."""
    return Run(run_of(name), **environment).finish()


def bert_lora(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run the command in a process of its own."""
    argv = ["bert-lora", *arguments]
    code = f"import sys; sys.argv = {argv!r}; from stages.tools.cli import main; main()"
    return Run(code, **environment).finish()


def refused(done: subprocess.CompletedProcess[str], code: int, *parts: str) -> str:
    """Check that a process ended as a user's mistake must, and return what it printed."""
    assert done.returncode == code, done.stdout
    assert "Traceback" not in done.stdout
    assert LAST_LINE.fullmatch(done.stdout.splitlines()[-1]), done.stdout
    for part in parts:
        assert part in done.stdout, done.stdout
    return done.stdout


def wait_for(condition: Callable[[], bool], seconds: float = 60) -> None:
    """Wait until the condition holds."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.02)


def heal(output: str) -> None:
    """Type the command that the last line gives, as a user would."""
    fix = output.splitlines()[-1].partition(" Fix: ")[2].removeprefix("run: ")
    shell(fix)


def undo(output: str) -> None:
    """Type what doctor says to go back to the last commit; drop the training that was stopped."""
    shell(output.splitlines()[-1].partition("the last commit: ")[2])
    shutil.rmtree(paths.CHECKPOINTS)


def shell(line: str) -> str:
    """Type a line into a shell that finds dvc and bert-lora, and return what it prints."""
    scripts = str(Path(sys.executable).parent)
    return well("bash", "-c", line, PATH=f"{scripts}{os.pathsep}{os.environ['PATH']}")


def locks(path: Path) -> bool:
    """Return whether a file is one that only says who runs a stage."""
    return path.suffix == ".lock" and path.name.startswith(".")


def tree() -> dict[str, str]:
    """Return the sha256 of every file of the current folder but DVC's and git's own."""
    return {
        path.as_posix(): sha256_of(path)
        for path in sorted(Path().rglob("*"))
        if path.is_file() and not ({".dvc", ".git", "__pycache__"} & set(path.parts) or locks(path))
    }


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
    for name in KEPT:
        shutil.copy(ROOT / name, folder / name)
    with chdir(folder):
        shutil.copytree(params.model.source, "data/raw/model")
        source = {"source": "data/raw/model"}
        save_params(params.model_copy(update={"model": params.model.model_copy(update=source)}))
        done = stage("compare")  # report and card name the model as params.yaml does
        assert done.returncode == 0, done.stdout
        well("git", "init", "-q")
        for key, value in (("user.name", "Test"), ("user.email", "test@example.org")):
            well("git", "config", key, value)
        dvc("init", "-q")
        shutil.copy(ROOT / ".dvc/config", ".dvc/config")
        shutil.copy(ROOT / ".dvcignore", ".dvcignore")
        dvc("commit", "--force", "-q")
        well("git", "add", "-A")
        well("git", "commit", "-qm", "a whole run")
        assert dvc("status", "--json").strip() == "{}"
        assert well("git", "status", "--porcelain") == ""
    return folder


@pytest.fixture
def dvc_project(finished_dvc_project: Path, tmp_path: Path) -> Iterator[Path]:
    """Stand in a copy of the finished project, to break."""
    folder = tmp_path / "dvc_project"
    shutil.copytree(finished_dvc_project, folder, symlinks=True)
    with chdir(folder):
        yield folder
