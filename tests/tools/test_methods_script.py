"""`.ci/methods.py` on a tiny model: killed three times it makes no training twice."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pandas as pd
import pytest

from stages.core import paths
from tests.support.tiny import ROOT

NAMES = ("LoRA", "head alone")
WORK = Path("models/.search/methods/mine")


def finished() -> dict[str, int]:
    """Return the trainings that are kept, by file, with the time of each."""
    return {str(path): path.stat().st_mtime_ns for path in WORK.glob("runs/*/facts.json")}


@pytest.mark.slow
@pytest.mark.usefixtures("project")
def test_killed_three_times_it_makes_no_training_twice() -> None:
    script = str(ROOT / ".ci/methods.py")
    command = [sys.executable, script, "mine=data/raw/mine.csv", "--methods", ",".join(NAMES)]
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    for _ in range(3):
        before = finished()
        run = subprocess.Popen(  # in a group of its own, so that its workers die with it
            [*command, "--trials", "2", "--seeds", "3"], env=environment, start_new_session=True
        )
        end = time.monotonic() + 240
        while len(finished()) == len(before) and run.poll() is None and time.monotonic() < end:
            time.sleep(0.05)
        os.killpg(run.pid, signal.SIGKILL)
        run.wait()
        assert len(finished()) > len(before)
        assert finished().items() >= before.items()
    before = finished()
    subprocess.run([*command, "--trials", "2", "--seeds", "3"], env=environment, check=True)
    after = finished()
    assert len(after) == len(NAMES) * 3
    assert after.items() >= before.items()
    table = pd.read_csv(paths.METHODS)
    assert list(table["method"]) == list(NAMES)
    assert list(table["seeds"]) == [3, 3]
    assert table["p_lora"].notna().tolist() == [False, True]
    assert (table["trained"] > 0).all()
