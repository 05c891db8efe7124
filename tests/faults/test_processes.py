"""Faults of a stage in several processes: one is killed, or is started twice."""

from __future__ import annotations

import shutil
import signal
import sys
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from stages.core import paths
from stages.core.artefacts import sha256_of
from stages.core.params import Params
from tests.support.faults import assert_refused, assert_soon, assert_succeeded, is_running
from tests.support.processes import (
    Started,
    assert_same_weights,
    end_all,
    free_port,
    start_agent,
    start_stage,
    weights,
)
from tests.support.tiny import changed, save_params

pytestmark = pytest.mark.slow
needs_linux = pytest.mark.skipif(
    sys.platform != "linux", reason="only Linux tells a child of its parent's end"
)
running: list[Started] = []


@pytest.fixture(autouse=True)
def _ended() -> Iterator[None]:
    """End what a failed test leaves."""
    yield
    while running:
        end_all(running.pop().process.pid)


@pytest.fixture
def before_training(project: Path, params: Params) -> Path:
    """Work in a project before train_lora, which takes two processes and many steps."""
    save_params(settings(params))
    shutil.rmtree(paths.ADAPTER)
    return project


def settings(params: Params, epochs: int = 300, processes: int = 2) -> Params:
    return changed(
        params,
        compute__processes=processes,
        train__epochs=epochs,
        train__patience=0,
        train__evaluations=8,
    )


def start(**environment: str) -> Started:
    running.append(start_stage("train_lora", **environment))
    return running[-1]


def wait_for_checkpoint() -> None:
    assert_soon(lambda: any(paths.CHECKPOINTS.glob("checkpoint-*/sealed.json")), 120)


def last_step() -> int:
    return max(int(f.parent.name[11:]) for f in paths.CHECKPOINTS.glob("checkpoint-*/sealed.json"))


@pytest.mark.usefixtures("before_training")
@pytest.mark.parametrize("rank", [0, 1])
def test_a_killed_process_ends_all_in_one_line_and_the_next_run_resumes(rank: int) -> None:
    training = start()
    wait_for_checkpoint()
    ranks = training.ranks()
    assert sorted(ranks) == [0, 1]
    ranks[rank].send_signal(signal.SIGKILL)
    done = training.finish(20)
    output = assert_refused(
        done,
        5,
        f"error: stage train_lora: process {rank + 1} of 2 was ended from outside (SIGKILL), and "
        "so the others were. Fix: run it again: a training continues from its last checkpoint",
    )
    assert output.count("error: ") == 1
    assert not any(each.is_running() for each in ranks.values())
    assert not is_running("train_lora")
    assert not paths.ADAPTER.exists()
    reached = last_step()
    known = paths.CHECKPOINTS / "inputs.json"
    assert '"processes": "2"' in known.read_text(encoding="utf-8")
    resumed = start()
    assert_soon(lambda: "continuing from" in resumed.output, 120)
    assert_soon(lambda: last_step() > reached, 120)
    resumed.process.send_signal(signal.SIGTERM)
    done = resumed.finish(20)
    assert done.returncode == 143
    assert done.stdout.splitlines()[-1] == "terminated"
    assert done.stdout.count("continuing from") == 1
    assert "Traceback" not in done.stdout


@pytest.mark.usefixtures("before_training")
def test_a_training_of_two_processes_continues_to_the_same_bytes(params: Params) -> None:
    save_params(settings(params, epochs=4))
    assert_succeeded(start().finish())
    expected = sha256_of(paths.ADAPTER_WEIGHTS)
    shutil.rmtree(paths.ADAPTER)
    training = start()
    wait_for_checkpoint()
    end_all(training.process.pid)
    training.finish()
    output = assert_succeeded(start().finish())
    assert "continuing from" in output
    assert sha256_of(paths.ADAPTER_WEIGHTS) == expected


@needs_linux
@pytest.mark.usefixtures("before_training")
def test_the_processes_end_with_the_one_that_started_them() -> None:
    training = start()
    wait_for_checkpoint()
    ranks = training.ranks()
    training.process.kill()
    training.finish(10)
    _, alive = psutil.wait_procs(ranks.values(), timeout=10)
    assert not [each for each in alive if each.status() != psutil.STATUS_ZOMBIE]
    assert not is_running("train_lora")


@pytest.mark.usefixtures("before_training")
def test_a_fault_of_all_processes_is_said_once() -> None:
    shutil.rmtree(paths.HEAD)
    done = start().finish()
    assert_refused(done, 5, "models/head not found")
    assert done.stdout.count("error: ") == 1


@pytest.mark.usefixtures("before_training")
def test_two_machines_train_to_the_weights_of_one_process(params: Params) -> None:
    few = changed(settings(params, epochs=2), lora__lora_dropout=0.0)
    save_params(changed(few, compute__processes=1))
    assert_succeeded(start().finish())
    alone = weights()
    shutil.rmtree(paths.ADAPTER)
    port = free_port()
    machines = [start_agent("train_lora", node, port) for node in (0, 1)]
    running.extend(machines)
    outputs = [assert_succeeded(machine.finish()) for machine in machines]
    assert_same_weights(alone, weights())
    assert sum("parameters train" in output for output in outputs) == 1
