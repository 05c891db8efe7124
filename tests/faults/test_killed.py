"""Rows 1 to 6, 30 and 56: training is killed, raced, orphaned and fed what it cannot digest."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from stages.core import paths
from stages.core.artefacts import sha256_of
from stages.core.params import Params
from tests.support.faults import Run, bert_lora, dvc, refused, run_of, undo, wait_for
from tests.support.tiny import changed, save_params

# The stage in a new process, with dropout on. WHEN says where it is killed: step:N, save:N (as
# the N-th checkpoint file is written), sync:N, rename:N, or never.
STAGE = """
import os, signal
from pathlib import Path
import torch
from stages.core import artefacts
from stages.training import trainer as training
kind, _, count = os.environ["WHEN"].partition(":")
left = [int(count or 0)]
def die_at(inner):
    def wrapped(*arguments, **options):
        left[0] -= 1
        if left[0] == 0:
            if kind == "save":  # half of it is on the disk
                Path(arguments[-1]).write_bytes(b"half")
            os.kill(os.getpid(), signal.SIGKILL)
        return inner(*arguments, **options)
    return wrapped
PLACES = {
    "step": (training.ClassifierTrainer, "training_step"),
    "save": (torch, "save"),
    "sync": (artefacts, "_sync"),
    "rename": (artefacts, "_put"),
}
if kind in PLACES:
    owner, name = PLACES[kind]
    setattr(owner, name, die_at(getattr(owner, name)))
""" + run_of("train_lora")


def start(when: str = "never") -> Run:
    return Run(STAGE, WHEN=when)


def finish(run: Run) -> str:
    done = run.finish()
    assert done.returncode == 0, done.stdout
    return done.stdout


def kill_at(when: str) -> None:
    assert start(when).finish().returncode == -signal.SIGKILL


def made() -> dict[str, str]:
    """Return the sha256 of all that training writes."""
    files = [p for f in (paths.ADAPTER, paths.TRAINING_CURVES) for p in f.iterdir()]
    return {str(path): sha256_of(path) for path in sorted(files) if path.name != "README.md"}


@pytest.fixture
def ready(project: Path, params: Params) -> Path:
    """Stand before train_lora, with dropout in body and LoRA, 8 looks in 16 steps."""
    body = paths.BASE_MODEL / "config.json"
    text = body.read_text(encoding="utf-8")
    assert '"hidden_dropout_prob": 0' in text
    body.write_text(
        text.replace('"hidden_dropout_prob": 0', '"hidden_dropout_prob": 0.1'), encoding="utf-8"
    )
    save_params(changed(params, train__evaluations_per_epoch=4, train__patience=0))
    shutil.rmtree(paths.ADAPTER)
    shutil.rmtree(paths.TRAINING_CURVES)
    return project


@pytest.fixture
def whole(ready: Path) -> dict[str, str]:
    """Return what an uninterrupted training gives, and stand before it again."""
    assert ready.is_dir()
    finish(start())
    found = made()
    shutil.rmtree(paths.ADAPTER)
    shutil.rmtree(paths.TRAINING_CURVES)
    assert not paths.CHECKPOINTS.exists()
    return found


@pytest.mark.slow
def test_row_01_a_training_killed_at_any_step_ends_in_the_same_bytes(whole: dict[str, str]) -> None:
    for step in (1, 3, 7, 8, 9, 12, 16):
        kill_at(f"step:{step}")
        assert not paths.ADAPTER.exists()
        output = finish(start())
        assert ("going on from" in output) == (step > 2)
        assert made() == whole, f"killed at step {step}"
        shutil.rmtree(paths.ADAPTER)


def test_row_01_two_kills_in_one_training(whole: dict[str, str]) -> None:
    kill_at("step:6")
    kill_at("step:7")  # counted from where it went on: 11 of 16
    assert "going on from" in finish(start())
    assert made() == whole


@pytest.mark.slow
def test_row_02_a_checkpoint_half_written_is_not_used(whole: dict[str, str]) -> None:
    for write in (1, 2, 3, 4, 5, 9, 14):  # optimiser, schedule and generators of each checkpoint
        kill_at(f"save:{write}")
        output = finish(start())
        assert "not whole, so it is not used" in output
        assert made() == whole, f"killed at write {write}"
        shutil.rmtree(paths.ADAPTER)


def test_row_02_a_checkpoint_damaged_later_is_not_used(whole: dict[str, str]) -> None:
    kill_at("step:11")
    last = max(paths.CHECKPOINTS.glob("checkpoint-*"), key=lambda f: int(f.name[11:]))
    optimiser = last / "optimizer.pt"
    content = bytearray(optimiser.read_bytes())
    content[len(content) // 2] ^= 1
    optimiser.write_bytes(content)
    output = finish(start())
    assert f"{last}: not whole" in output
    assert "going on from" in output
    assert made() == whole


@pytest.mark.usefixtures("ready")
def test_row_03_a_checkpoint_of_other_inputs_is_not_used(params: Params) -> None:
    kill_at("step:11")
    save_params(
        changed(
            params, train__learning_rate=0.02, train__evaluations_per_epoch=4, train__patience=0
        )
    )
    output = finish(start())
    assert "other inputs (train.learning_rate: 0.01, now 0.02)" in output
    assert "going on from" not in output
    afresh = made()
    shutil.rmtree(paths.ADAPTER)
    finish(start())
    assert made() == afresh


@pytest.mark.usefixtures("ready")
def test_row_03_a_checkpoint_of_other_data_is_not_used() -> None:
    kill_at("step:11")
    shutil.copy(paths.VALIDATION, paths.TRAIN)
    output = finish(start())
    assert f"other inputs ({paths.TRAIN}" in output
    assert "going on from" not in output


@pytest.mark.usefixtures("ready")
@pytest.mark.parametrize(
    ("number", "code", "line"),
    [(signal.SIGTERM, 143, "terminated"), (signal.SIGINT, 130, "interrupted")],
)
def test_row_04_a_signal_ends_it_in_one_line(number: signal.Signals, code: int, line: str) -> None:
    process = start()
    wait_for(lambda: any(paths.CHECKPOINTS.glob("checkpoint-*")))
    process.send(number)
    done = process.finish(5)
    assert done.returncode == code, done.stdout
    assert done.stdout.splitlines()[-1] == line
    assert "Traceback" not in done.stdout
    assert not paths.ADAPTER.exists()


@pytest.mark.slow
@pytest.mark.usefixtures("dvc_project")
@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells a child of its parent's end")
@pytest.mark.parametrize("shell", ["/bin/bash", "/bin/sh"])  # sh may stay between the two
def test_row_05_the_trainer_ends_with_the_dvc_that_was_killed(shell: str) -> None:
    command = [sys.executable, "-m", "dvc", "exp", "run", "-S", "train.epochs=500"]
    command += ["-S", "train.patience=0"]
    environment = {**os.environ, "PYTHONPATH": str(Path.cwd()), "SHELL": shell}
    parent = subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL)
    wait_for(lambda: any(paths.CHECKPOINTS.glob("checkpoint-*")))
    child = int(Path("models/.train_lora.lock").read_text(encoding="utf-8"))
    assert alive(child)
    parent.kill()
    parent.wait()
    wait_for(lambda: not alive(child), 5)
    assert not paths.ADAPTER_WEIGHTS.exists()  # DVC removes outputs before it runs a stage
    undo(refused(bert_lora("doctor"), 5, "a run was cut off"))
    dvc("repro")
    assert bert_lora("verify").returncode == 0


@pytest.mark.usefixtures("ready")
def test_row_06_a_second_trainer_is_turned_away() -> None:
    first = start()
    wait_for(lambda: any(paths.CHECKPOINTS.glob("checkpoint-*")))
    first.send(signal.SIGSTOP)
    done = start().finish(60)
    refused(
        done,
        5,
        f"error: stage train_lora: running already, process {first.pid}.",
        f"Fix: wait for it, or stop it: kill {first.pid}",
    )
    first.send(signal.SIGCONT)
    finish(first)
    assert made()


RACE = """
import os, time
from stages.running import locks as guard, stage as run
def work():
    while time.time() < float(os.environ["AT"]): pass
    with guard.sole_run("train_lora"):
        with open("winners", "a") as file: file.write("x")
        time.sleep(1)
import sys; sys.exit(run.exit_code_of(work))
"""


@pytest.mark.slow
def test_row_06_of_fifty_concurrent_starts_one_wins(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for _ in range(5):
        racers = [Run(RACE, AT=str(time.time() + 1)) for _ in range(10)]
        ends = [racer.finish(60).returncode for racer in racers]
        assert sorted(ends) == [0] + [5] * 9
    assert Path("winners").read_text(encoding="utf-8") == "xxxxx"


POISON = """
from stages.training import trainer as training
inner = training.ClassifierTrainer.compute_loss
def poisoned(self, *arguments, **options):
    found = inner(self, *arguments, **options)
    return found * float("nan") if self.state.global_step == 3 else found
training.ClassifierTrainer.compute_loss = poisoned
"""


@pytest.mark.usefixtures("ready")
def test_row_30_a_loss_that_is_not_finite_ends_it_at_that_step(params: Params) -> None:
    assert params.train.batch_size == 8
    done = Run(POISON + STAGE, WHEN="never").finish()
    output = refused(done, 6, "error: training: the loss is not finite at step 4, learning rate ")
    assert ", rows " in output.splitlines()[-1]
    assert "Fix: lower the learning rate" in output
    assert not paths.ADAPTER.exists()


@pytest.mark.slow
def test_row_56_old_or_new_but_never_a_mix(whole: dict[str, str]) -> None:
    finish(start())
    assert made() == whole
    for when in ("sync:1", "rename:1", "sync:2", "rename:2", "sync:12", "rename:12"):
        kill_at(when)
        kept = {k: v for k, v in made().items() if k in whole}
        assert kept == whole, when
    finish(start())
    assert made() == whole
    assert not [*Path("models").glob("*.tmp-*"), *Path("metrics").glob("*.tmp-*")]


def alive(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()[0]
    except FileNotFoundError:
        return False
    return state != "Z"
