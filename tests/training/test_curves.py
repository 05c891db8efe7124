"""The training curves: written from the Trainer's log, read back, and refused when damaged."""

from __future__ import annotations

from pathlib import Path

import pytest

from stages.core import paths
from stages.core.errors import DataError
from stages.training.curves import read_training_curves, write_training_curves


def test_the_curves_of_a_run_hold_each_evaluation_step(finished_run: Path) -> None:
    train, validation = read_training_curves(finished_run / paths.TRAINING_CURVES)
    assert list(validation) == ["step", "epoch", "loss", "scaled_loss", "accuracy"]
    assert validation["step"].tolist() == [4, 8, 12, 16]
    assert validation["accuracy"].between(0, 1).all()
    assert list(train) == ["step", "epoch", "loss", "learning_rate"]
    assert train["loss"].between(0, 10, inclusive="neither").all()
    rates = train["learning_rate"].tolist()
    assert rates == sorted(rates, reverse=True)
    assert 0 < rates[-1] < rates[0] <= 0.01


def test_curves_are_written_from_the_log(tmp_path: Path) -> None:
    history = [
        {"step": 10, "epoch": 0.5, "loss": 0.7, "learning_rate": 1e-3, "grad_norm": 1.0},
        {
            **{"step": 10, "epoch": 0.5, "eval_loss": 2 / 3},
            **{"eval_scaled_loss": 0.6, "eval_accuracy": 0.5},
        },
        {"step": 20, "epoch": 1.0, "train_loss": 0.6, "train_runtime": 3.0},
    ]
    folder = tmp_path / "curves"
    write_training_curves(history, folder)
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == {
        "train.csv": b"step,epoch,loss,learning_rate\n10,0.5,0.7,0.001\n",
        "validation.csv": b"step,epoch,loss,scaled_loss,accuracy\n10,0.5,0.666667,0.6,0.5\n",
    }


def test_a_run_without_training_has_empty_curves(tmp_path: Path) -> None:
    write_training_curves([], tmp_path / "curves")
    assert [len(frame) for frame in read_training_curves(tmp_path / "curves")] == [0, 0]


@pytest.mark.parametrize("content", ["", "step,epoch\n1,2\n", '"'])
def test_damaged_curves_name_the_stage_that_makes_them(tmp_path: Path, content: str) -> None:
    write_training_curves([], tmp_path)
    (tmp_path / "validation.csv").write_text(content, encoding="utf-8")
    with pytest.raises(DataError, match=r"validation.csv.*dvc repro -f train_lora"):
        read_training_curves(tmp_path)
