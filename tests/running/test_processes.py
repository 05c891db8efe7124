"""Where a process stands among several, and what their failures are reported as."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from stages.core.errors import DataError, HostError, UserError
from stages.running.processes import (
    LostError,
    _cause,
    from_first,
    gathered,
    leads,
    report,
    share,
)
from stages.running.run import world
from tests.support.tiny import ROOT


@dataclass
class Failure:
    """What PyTorch's launcher says of a process that failed."""

    exitcode: int
    message: Any = ""

    def signal_name(self) -> str:
        """Return the signal that ended it."""
        return {-9: "SIGKILL", -15: "SIGTERM"}[self.exitcode]


LOST = Failure(5)  # it leaves the reason to the process that has ended
KILLED = "process 3 of 3 was ended from outside (SIGKILL), and so the others were"


def told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: UserError) -> Failure:
    path = tmp_path / "error.json"
    monkeypatch.setenv("TORCHELASTIC_ERROR_FILE", str(path))
    report(error)
    message = json.loads(path.read_text(encoding="utf-8"))["message"] if path.exists() else ""
    return Failure(error.exit_code, message)


def test_the_mistake_of_one_is_what_all_ended_of(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert told(tmp_path, monkeypatch, LostError("gone", "look")) == LOST
    both = DataError.from_faults([("one", "a"), ("two", "b")])
    failed = told(tmp_path, monkeypatch, both)
    error = _cause("train_lora", 3, {0: LOST, 1: failed, 2: Failure(-15)})
    assert isinstance(error, SystemExit)
    assert (error.code, capsys.readouterr().err) == (3, f"{both}\n")


@pytest.mark.parametrize(
    ("failures", "kind", "message"),
    [
        ({0: Failure(-15), 1: LOST, 2: Failure(-9)}, HostError, KILLED),
        ({0: LOST, 1: Failure(-15)}, HostError, "process 2 of 3 was ended from outside (SIGTERM)"),
        ({0: LOST, 2: LOST}, HostError, "train_lora: its 3 processes have lost one another"),
        ({0: LOST, 1: Failure(1, "see the traceback")}, SystemExit, "1"),
    ],
)
def test_a_kill_is_named_and_a_bug_keeps_its_traceback(
    failures: dict[int, Failure], kind: type[BaseException], message: str
) -> None:
    error = _cause("train_lora", 3, failures)
    assert isinstance(error, kind)
    assert message in str(error)


def test_one_process_alone_shares_nothing() -> None:
    assert (world().rank, world().size, world().leads) == (0, 1, True)
    assert share() == (0, 1)
    assert leads()
    assert gathered("x") == ["x"]
    assert from_first(lambda: "y") == "y"


TWO = {"WORLD_SIZE": "2", "LOCAL_WORLD_SIZE": "2"}
ONE = {"RANK": "0", "LOCAL_RANK": "0", "WORLD_SIZE": "1", "LOCAL_WORLD_SIZE": "1"}
ENTER = """
from stages.core.errors import exit_code_of
from stages.running.run import enter
import sys
def work():
    place = enter()
    print("rank", place.rank, "of", place.size)
code = exit_code_of(work)
print([name for name in ("torch", "accelerate") if name in sys.modules], file=sys.stderr)
sys.exit(code)
"""
RUN = "from stages.running.run import run_stage\nrun_stage('prepare', lambda _: print('ran'))"


def run(code: str, folder: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        cwd=folder,
        text=True,
        check=False,
        env={**os.environ, "PYTHONPATH": str(ROOT), **environment},
    )


@pytest.mark.parametrize(
    ("environment", "code", "printed"),
    [
        ({}, 0, "rank 0 of 1\n"),
        ({"RANK": "1"}, 0, "rank 0 of 1\n"),
        ({"RANK": "0", "WORLD_SIZE": "2"}, 0, "rank 0 of 2\n"),  # by hand
        (ONE, 0, "rank 0 of 1\n"),
        ({**TWO, "RANK": "0", "LOCAL_RANK": "0"}, 0, "rank 0 of 2\n"),
        ({**TWO, "RANK": "1", "LOCAL_RANK": "1"}, 0, ""),  # it prints nothing
        ({**TWO, "RANK": "many", "LOCAL_RANK": "1"}, 5, ""),
    ],
)
def test_a_process_takes_its_place_without_torch(
    tmp_path: Path, environment: dict[str, str], code: int, printed: str
) -> None:
    done = run(ENTER, tmp_path, **environment)
    assert (done.returncode, done.stdout) == (code, printed)
    *lines, imported = done.stderr.splitlines()
    assert imported == "[]"
    assert len(lines) == (code > 0)
    assert all("RANK=many, WORLD_SIZE=2" in line for line in lines)


@pytest.mark.parametrize(("rank", "printed"), [("0", "ran\n"), ("1", "")])
def test_a_stage_that_cannot_be_shared_runs_in_the_first_process_alone(
    tmp_path: Path, rank: str, printed: str
) -> None:
    (tmp_path / "params.yaml").write_bytes((ROOT / "params.yaml").read_bytes())
    done = run(RUN, tmp_path, **TWO, RANK=rank, LOCAL_RANK=rank)
    assert (done.stdout, done.stderr, done.returncode) == (printed, "", 0)
    assert Path(tmp_path / "models/.prepare.lock").exists() == (rank == "0")
