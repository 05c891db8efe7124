"""Faults of a training: killed, started twice, left without DVC, or with a loss of NaN."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from stages.core import paths
from stages.core.artefacts import sha256_of
from stages.core.params import Params
from tests.support.faults import (
    Run,
    assert_refused,
    assert_soon,
    assert_succeeded,
    bert_lora,
    code_of_stage,
    dvc,
    return_to_last_commit,
)
from tests.support.tiny import changed, save_params

# Runs train_lora and kills it at a place that WHEN names: step:N, save:N (half of the N-th
# checkpoint file is written), sync:N (before the N-th file is flushed to the disk), rename:N
# (before the N-th rename to a final name), or never.
STAGE = """
import os, signal
from pathlib import Path
import torch
from stages.training import trainer
kind, _, count = os.environ["WHEN"].partition(":")
calls_left = int(count or 0)
def kill_at_last_call(function):
    def wrapped(*arguments, **options):
        global calls_left
        calls_left -= 1
        if calls_left == 0:
            if kind == "save":
                Path(arguments[-1]).write_bytes(b"half")
            os.kill(os.getpid(), signal.SIGKILL)
        return function(*arguments, **options)
    return wrapped
PLACES = {
    "step": [(trainer.ClassifierTrainer, "training_step")],
    "save": [(torch, "save")],
    "sync": [(os, "fsync")],
    "rename": [(Path, "rename"), (Path, "replace")],
}
for owner, name in PLACES.get(kind, []):
    setattr(owner, name, kill_at_last_call(getattr(owner, name)))
""" + code_of_stage("train_lora")


def start(when: str = "never") -> Run:
    return Run(STAGE, WHEN=when)


def train() -> str:
    return assert_succeeded(start().finish())


def assert_killed_at(when: str) -> None:
    assert start(when).finish().returncode == -signal.SIGKILL


def output_hashes() -> dict[str, str]:
    """Return the sha256 of each file that training writes."""
    files = [p for f in (paths.ADAPTER, paths.TRAINING_CURVES) for p in f.iterdir()]
    return {str(path): sha256_of(path) for path in sorted(files) if path.name != "README.md"}


@pytest.fixture
def before_training(project: Path, params: Params) -> Path:
    """Work in a project before train_lora, with dropout and 8 evaluation steps in 16 steps."""
    config = paths.BASE_MODEL / "config.json"
    text = config.read_text(encoding="utf-8")
    assert '"hidden_dropout_prob": 0' in text
    config.write_text(
        text.replace('"hidden_dropout_prob": 0', '"hidden_dropout_prob": 0.1'), encoding="utf-8"
    )
    save_params(changed(params, train__evaluations=8, train__patience=0))
    shutil.rmtree(paths.ADAPTER)
    shutil.rmtree(paths.TRAINING_CURVES)
    return project


@pytest.fixture
def uninterrupted(before_training: Path) -> dict[str, str]:
    """Return the output hashes of a training without a kill, and work before it again."""
    assert before_training.is_dir()
    train()
    hashes = output_hashes()
    shutil.rmtree(paths.ADAPTER)
    shutil.rmtree(paths.TRAINING_CURVES)
    assert not paths.CHECKPOINTS.exists()
    return hashes


@pytest.mark.slow
def test_a_training_killed_at_any_step_continues_to_the_same_bytes(
    uninterrupted: dict[str, str],
) -> None:
    for step in (1, 3, 7, 8, 9, 12, 16):
        assert_killed_at(f"step:{step}")
        assert not paths.ADAPTER.exists()
        output = train()
        assert ("continuing from" in output) == (step > 2)
        assert output_hashes() == uninterrupted, f"killed at step {step}"
        shutil.rmtree(paths.ADAPTER)


@pytest.mark.guard("order of an epoch")
def test_a_training_killed_twice_continues_to_the_same_bytes(uninterrupted: dict[str, str]) -> None:
    assert_killed_at("step:6")
    assert_killed_at("step:7")  # counted from checkpoint 4: step 11 of 16
    assert "continuing from" in train()
    assert output_hashes() == uninterrupted


@pytest.mark.slow
def test_a_half_written_checkpoint_is_not_used(uninterrupted: dict[str, str]) -> None:
    for write in (1, 2, 3, 4, 5, 9, 14):  # optimiser, schedule and random state of each checkpoint
        assert_killed_at(f"save:{write}")
        output = train()
        assert "incomplete, so it is not used" in output
        assert output_hashes() == uninterrupted, f"killed at write {write}"
        shutil.rmtree(paths.ADAPTER)


@pytest.mark.guard("complete checkpoint")
def test_a_damaged_checkpoint_is_not_used(uninterrupted: dict[str, str]) -> None:
    assert_killed_at("step:11")
    last = max(paths.CHECKPOINTS.glob("checkpoint-*"), key=lambda f: int(f.name[11:]))
    optimiser = last / "optimizer.pt"
    content = bytearray(optimiser.read_bytes())
    content[len(content) // 2] ^= 1
    optimiser.write_bytes(content)
    output = train()
    assert f"{last}: incomplete" in output
    assert "continuing from" in output
    assert output_hashes() == uninterrupted


@pytest.mark.guard("inputs of a checkpoint")
@pytest.mark.usefixtures("before_training")
def test_a_checkpoint_of_other_params_is_not_used(params: Params) -> None:
    assert_killed_at("step:11")
    save_params(changed(params, train__learning_rate=0.02, train__evaluations=8, train__patience=0))
    output = train()
    assert "other inputs (train.learning_rate: 0.01, now 0.02)" in output
    assert "continuing from" not in output
    from_the_beginning = output_hashes()
    shutil.rmtree(paths.ADAPTER)
    train()
    assert output_hashes() == from_the_beginning


@pytest.mark.guard("SIGTERM")
@pytest.mark.usefixtures("before_training")
@pytest.mark.parametrize(
    ("number", "code", "line"),
    [(signal.SIGTERM, 143, "terminated"), (signal.SIGINT, 130, "interrupted")],
)
def test_a_signal_ends_a_training_in_one_line(number: signal.Signals, code: int, line: str) -> None:
    training = start()
    assert_soon(lambda: any(paths.CHECKPOINTS.glob("checkpoint-*")))
    training.send(number)
    done = training.finish(5)
    assert done.returncode == code, done.stdout
    assert done.stdout.splitlines()[-1] == line
    assert "Traceback" not in done.stdout
    assert not paths.ADAPTER.exists()


@pytest.mark.guard("end with DVC")
@pytest.mark.slow
@pytest.mark.usefixtures("dvc_project")
@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells a child of its parent's end")
@pytest.mark.parametrize("shell", ["/bin/bash", "/bin/sh"])
def test_the_training_ends_with_the_dvc_that_was_killed(shell: str) -> None:
    command = [sys.executable, "-m", "dvc", "exp", "run", "-S", "train.epochs=500"]
    command += ["-S", "train.patience=0"]
    environment = {**os.environ, "PYTHONPATH": str(Path.cwd()), "SHELL": shell}
    parent = subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL)
    assert_soon(lambda: any(paths.CHECKPOINTS.glob("checkpoint-*")))
    child = int(Path("models/.train_lora.lock").read_text(encoding="utf-8"))
    assert is_alive(child)
    parent.kill()
    parent.wait()
    assert_soon(lambda: not is_alive(child), 5)
    assert not paths.ADAPTER_WEIGHTS.exists()  # DVC removes outputs before it runs a stage
    return_to_last_commit(assert_refused(bert_lora("verify"), 5, "a run was cut off"))
    dvc("repro")
    assert bert_lora("verify").returncode == 0


@pytest.mark.guard("one run of a stage")
@pytest.mark.usefixtures("before_training")
def test_a_second_training_is_refused() -> None:
    first = start()
    assert_soon(lambda: any(paths.CHECKPOINTS.glob("checkpoint-*")))
    first.send(signal.SIGSTOP)
    try:
        done = start().finish(60)
    finally:
        first.send(signal.SIGCONT)
    assert_refused(
        done,
        5,
        f"error: stage train_lora: running already, process {first.pid}.",
        f"Fix: wait for it, or stop it: kill {first.pid}",
    )
    assert_succeeded(first.finish())
    assert output_hashes()


NAN_LOSS = """
from stages.training.trainer import ClassifierTrainer
compute_loss = ClassifierTrainer.compute_loss
def nan_at_step_4(self, *arguments, **options):
    loss = compute_loss(self, *arguments, **options)
    return loss * float("nan") if self.state.global_step == 3 else loss
ClassifierTrainer.compute_loss = nan_at_step_4
"""


@pytest.mark.guard("finite loss")
@pytest.mark.usefixtures("before_training")
def test_a_loss_that_is_not_finite_ends_the_training_at_that_step(params: Params) -> None:
    assert params.train.batch_size == 8
    done = Run(NAN_LOSS + STAGE, WHEN="never").finish()
    output = assert_refused(
        done, 6, "error: training: the loss is not finite at step 4, learning rate "
    )
    assert ", rows " in output.splitlines()[-1]
    assert "Fix: lower the learning rate" in output
    assert not paths.ADAPTER.exists()


@pytest.mark.slow
def test_a_kill_while_outputs_are_replaced_keeps_the_old_ones(
    uninterrupted: dict[str, str],
) -> None:
    train()
    assert output_hashes() == uninterrupted
    # The inputs of the checkpoints, the first checkpoint, the adapter, the curves.
    for when in (
        *("sync:1", "rename:1", "sync:2", "rename:2"),
        *("sync:12", "rename:12", "sync:15", "rename:14"),
    ):
        shutil.rmtree(paths.CHECKPOINTS, ignore_errors=True)  # so that each one trains
        assert_killed_at(when)
        present = {k: v for k, v in output_hashes().items() if k in uninterrupted}
        assert present == uninterrupted, when
    train()
    assert output_hashes() == uninterrupted
    assert not [*Path("models").glob("*.tmp-*"), *Path("metrics").glob("*.tmp-*")]


def is_alive(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()[0]
    except FileNotFoundError:
        return False
    return state != "Z"
