"""Faults of a training: killed, started twice, left without DVC, or with a loss of NaN."""

from __future__ import annotations

import json
import shutil
import signal
import sys
from collections.abc import Iterator
from contextlib import chdir
from pathlib import Path
from typing import Any

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
    file_hashes,
    is_running,
    return_to_last_commit,
    run_successfully,
)
from tests.support.model_files import edit_json
from tests.support.processes import Started
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


def settings(params: Params, **changes: Any) -> Params:
    """Return params of 8 evaluation steps in 16 steps."""
    return changed(params, train__evaluations=8, train__patience=0, **changes)


def forget_the_training() -> None:
    shutil.rmtree(paths.ADAPTER)
    shutil.rmtree(paths.TRAINING_CURVES)


@pytest.fixture(scope="module")
def untrained(
    finished_run: Path, params: Params, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, dict[str, str]]:
    """Return a project before train_lora, with dropout, and the hashes of its outputs after it."""
    folder = tmp_path_factory.mktemp("untrained") / "project"
    shutil.copytree(finished_run, folder)
    with chdir(folder):
        config = json.loads((paths.BASE_MODEL / "config.json").read_text(encoding="utf-8"))
        assert config["hidden_dropout_prob"] == 0
        edit_json(paths.BASE_MODEL / "config.json", hidden_dropout_prob=0.1)
        save_params(settings(params))
        forget_the_training()
        train()
        assert not paths.CHECKPOINTS.exists()
        hashes = output_hashes()
        forget_the_training()
    return folder, hashes


@pytest.fixture
def uninterrupted(
    untrained: tuple[Path, dict[str, str]], tmp_path: Path
) -> Iterator[dict[str, str]]:
    """Work in a project before train_lora; return the hashes of its outputs without a kill."""
    folder, hashes = untrained
    shutil.copytree(folder, tmp_path / "project")
    with chdir(tmp_path / "project"):
        yield hashes


@pytest.mark.slow
@pytest.mark.parametrize(
    ("place", "counts"),
    [
        ("step", (1, 3, 7, 8, 9, 12, 16)),
        # Optimiser, schedule and random state of each checkpoint: half of one is not used.
        ("save", (1, 2, 3, 4, 5, 9, 14)),
    ],
)
def test_a_training_killed_anywhere_continues_to_the_same_bytes(
    uninterrupted: dict[str, str], place: str, counts: tuple[int, ...]
) -> None:
    for count in counts:
        assert_killed_at(f"{place}:{count}")
        assert not paths.ADAPTER.exists()
        output = train()
        if place == "step":
            assert ("continuing from" in output) == (count > 2)
        else:
            assert "incomplete, so it is not used" in output
        assert output_hashes() == uninterrupted, f"killed at {place} {count}"
        shutil.rmtree(paths.ADAPTER)


@pytest.mark.guard("order of an epoch")
def test_a_training_killed_twice_continues_to_the_same_bytes(uninterrupted: dict[str, str]) -> None:
    assert_killed_at("step:6")
    assert_killed_at("step:7")  # counted from checkpoint 4: step 11 of 16
    assert "continuing from" in train()
    assert output_hashes() == uninterrupted


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
def test_a_checkpoint_of_other_params_is_not_used(
    params: Params, uninterrupted: dict[str, str]
) -> None:
    save_params(settings(params, train__learning_rate=0.02))
    assert_killed_at("step:11")
    save_params(settings(params))
    output = train()
    assert "other inputs (train.learning_rate: 0.02, now 0.01)" in output
    assert "continuing from" not in output
    assert output_hashes() == uninterrupted


@pytest.mark.guard("SIGTERM")
@pytest.mark.usefixtures("uninterrupted")
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
def test_a_killed_experiment_ends_its_training_and_is_undone_by_the_command_of_verify(
    shell: str,
) -> None:
    before, branch = file_hashes(), run_successfully("git", "symbolic-ref", "HEAD")
    command = ("exp", "run", "-S", "train.epochs=500", "-S", "train.patience=0")
    started = Started(sys.executable, "-m", "dvc", *command, SHELL=shell)
    assert_soon(lambda: any(paths.CHECKPOINTS.glob("checkpoint-*")))
    assert is_running("train_lora")
    started.process.kill()
    started.finish()
    assert_soon(lambda: not is_running("train_lora"), 5)
    assert not paths.ADAPTER_WEIGHTS.exists()  # DVC removes outputs before it runs a stage
    assert run_successfully("git", "branch", "--show-current") == ""  # DVC works on a commit
    return_to_last_commit(assert_refused(bert_lora("verify"), 5, "an experiment was cut off"))
    assert file_hashes() == before
    assert run_successfully("git", "symbolic-ref", "HEAD") == branch
    assert run_successfully("git", "status", "--porcelain") == ""
    dvc("repro")
    assert bert_lora("verify").returncode == 0


@pytest.mark.guard("one run of a stage")
@pytest.mark.usefixtures("uninterrupted")
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
@pytest.mark.usefixtures("uninterrupted")
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
