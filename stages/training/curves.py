"""The training curves: loss and learning rate while training, loss and accuracy on validation.

This module is the only one that writes and reads metrics/training.
"""

from pathlib import Path

import pandas as pd

from stages.core.artefacts import replacing, require
from stages.core.errors import DataError, printable

TRAIN, VALIDATION = "train.csv", "validation.csv"
COMMON = ["step", "epoch"]
# Columns of each file by the keys of the Trainer's log that they are taken from.
COLUMNS = {
    TRAIN: {"loss": "loss", "learning_rate": "learning_rate"},
    VALIDATION: {
        "eval_loss": "loss",
        "eval_scaled_loss": "scaled_loss",
        "eval_accuracy": "accuracy",
    },
}


def write_training_curves(history: list[dict[str, float]], folder: Path) -> None:
    """Write the curves as train.csv and validation.csv; losses are mean cross entropy in nats.

    Args:
        history: the Trainer's log.
        folder: replaced by a new one.
    """
    with replacing(folder) as temporary:
        temporary.mkdir()
        for name, own in COLUMNS.items():
            frame = pd.DataFrame(history, columns=[*COMMON, *own]).dropna().rename(columns=own)
            frame.to_csv(temporary / name, index=False, float_format="%.6g", lineterminator="\n")


def read_training_curves(folder: Path) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Return the curves of training (step, epoch, loss, learning_rate) and of validation.

    The latter has step, epoch, loss, scaled_loss and accuracy. Both are empty without training.

    Raises:
        HostError: if the folder is missing.
        DataError: if a file cannot be read or lacks a column.
    """
    frames = []
    for name, own in COLUMNS.items():
        try:
            frame = pd.read_csv(require(folder) / name)
            frames.append(frame[[*COMMON, *own.values()]])
        except (OSError, ValueError, KeyError) as error:
            raise DataError(
                f"{folder / name}: cannot be read: {printable(error)}",
                "make it again: dvc repro -f train_lora",
            ) from error
    return frames[0], frames[1]
