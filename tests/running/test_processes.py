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
from stages.running.processes import LostError, _cause, report, world
from stages.running.ranks import from_first, gathered, gathered_by_first, is_lost, leads, share
from tests.support.tiny import ROOT


@dataclass
class Failure:
    """What PyTorch's launcher says of a process that failed."""

    exitcode: int
    message: Any = ""

    def signal_name(self) -> str:
        """Return the signal that ended it."""
        return {-9: "SIGKILL", -15: "SIGTERM"}[self.exitcode]


def told(error: UserError, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Failure:
    path = tmp_path / "error.json"
    monkeypatch.setenv("TORCHELASTIC_ERROR_FILE", str(path))
    report(error)
    return Failure(error.exit_code, json.loads(path.read_text(encoding="utf-8"))["message"])


def test_the_mistake_of_one_is_what_all_ended_of(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    both = UserError.from_faults([("one", "a"), ("two", "b")])
    both.exit_code = DataError.exit_code
    lost = told(LostError("gone", "look"), tmp_path, monkeypatch)
    error = _cause("s", 3, {0: lost, 1: told(both, tmp_path, monkeypatch), 2: Failure(-15)})
    assert isinstance(error, UserError)
    assert (error.exit_code, str(error)) == (3, str(both))


def test_a_kill_is_named_before_what_followed_from_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lost = told(LostError("gone", "look"), tmp_path, monkeypatch)
    error = _cause("train_lora", 4, {0: Failure(-15), 1: lost, 2: Failure(-9)})
    assert isinstance(error, HostError)
    assert "stage train_lora: process 3 of 4 was ended from outside (SIGKILL)" in str(error)


def test_a_bug_keeps_its_traceback_and_exit_code() -> None:
    error = _cause("s", 2, {1: Failure(1, "see the traceback")})
    assert isinstance(error, SystemExit)
    assert error.code == 1


def test_a_lost_connection_alone_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    lost = told(LostError("gone", "look"), tmp_path, monkeypatch)
    assert isinstance(_cause("s", 2, {0: lost}), LostError)


def test_one_process_alone_shares_nothing() -> None:
    assert (world().rank, world().size, world().leads) == (0, 1, True)
    assert share() == (0, 1)
    assert leads()
    assert gathered("x") == gathered_by_first("x") == ["x"]
    assert from_first(lambda: "y") == "y"
    assert not is_lost(RuntimeError("Connection closed by peer"))


def run(code: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "PYTHONPATH": str(ROOT), **environment},
    )


ENTER = """
from stages.running.processes import enter
place = enter()
print("rank", place.rank, "of", place.size)
import sys
print([name for name in ("torch", "accelerate") if name in sys.modules], file=sys.stderr)
"""
TWO = {"WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "29500"}


@pytest.mark.parametrize(
    ("environment", "printed"),
    [
        ({}, "rank 0 of 1\n"),
        ({"RANK": "0", "WORLD_SIZE": "1"}, "rank 0 of 1\n"),
        ({**TWO, "RANK": "0"}, "rank 0 of 2\n"),
        ({**TWO, "RANK": "1"}, ""),  # it prints nothing
    ],
)
def test_a_process_takes_its_place_without_torch(environment: dict[str, str], printed: str) -> None:
    done = run(ENTER, **environment)
    assert (done.stdout, done.stderr, done.returncode) == (printed, "[]\n", 0)


def test_a_stage_that_cannot_be_shared_runs_in_the_first_process_alone(tmp_path: Path) -> None:
    (tmp_path / "params.yaml").write_bytes((ROOT / "params.yaml").read_bytes())
    code = (
        "import os, sys\nos.chdir(sys.argv[1]) if sys.argv[1:] else None\n"
        "from stages.running.stage import run_stage\n"
        "run_stage(lambda _: print('works', file=sys.stderr))"
    )
    for rank, printed in (("0", "works\n"), ("1", "")):
        done = subprocess.run(
            [sys.executable, "-c", code],
            cwd=tmp_path,
            capture_output=True,
            text=True,
            check=False,
            env={**os.environ, "PYTHONPATH": str(ROOT), **TWO, "RANK": rank},
        )
        assert (done.stderr, done.returncode) == (printed, 0)
