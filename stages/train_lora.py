"""Train LoRA and the head, from the base's own head, and keep what validation likes best."""

from __future__ import annotations

import math
import shutil
from typing import TYPE_CHECKING

from stages.core import paths
from stages.core.artefacts import replacing
from stages.core.params import Params
from stages.running.stage import run_stage

if TYPE_CHECKING:  # heavy libraries are imported once the params are known to be right
    from pathlib import Path

    from stages.model.classifier import Classifier
    from stages.model.device import Compute
    from stages.rows.prepared import Split

FULL_FINE_TUNING_RATE = 1e-4


def train_lora(params: Params) -> None:
    """Write the adapter to models/adapter and the training curves to metrics/training."""
    from stages.model import classifier as model
    from stages.model import device as compute
    from stages.model import saved as adapter_files
    from stages.rows import prepared as splits

    hardware = compute.set_up(params.compute)
    labels = splits.read_labels()
    train = splits.read_split(paths.TRAIN, labels)
    validation = splits.read_split(paths.VALIDATION, labels)
    base = model.load_base(paths.BASE_MODEL, labels, params.seed)
    model.load_head(base, paths.HEAD)

    classifier = trainable(base, params)
    print(describe(classifier))
    for warning in unusual(params):
        print(f"warning: {warning}")
    history = fit(classifier, train, validation, params, hardware)

    with replacing(paths.ADAPTER) as folder:
        adapter_files.save_adapter(classifier, folder, paths.BASE_MODEL, params.data.max_length)
    with replacing(paths.TRAINING_CURVES) as folder:
        write_curves(history, folder)
    shutil.rmtree(paths.CHECKPOINTS, ignore_errors=True)


def trainable(base: Classifier, params: Params) -> Classifier:
    """Return the classifier with what the method trains: LoRA and the head, or every weight."""
    from stages.model import lora as adapter

    return adapter.attach_lora(base, params.lora) if params.train.method == "lora" else base


def describe(classifier: Classifier) -> str:
    """Return what will train: modules, parameters, and their share of the whole."""
    sizes = [(p.numel(), p.requires_grad) for p in classifier.model.parameters()]
    total = sum(size for size, _ in sizes)
    free = sum(size for size, trains in sizes if trains)
    what = "every weight, head"
    if hasattr(classifier.model, "peft_config"):
        config = classifier.model.peft_config["default"]
        modules = len(classifier.model.base_model.targeted_module_names)
        names = ", ".join(sorted(config.target_modules))
        what = f"LoRA r={config.r} on {names} ({modules} modules), head"
    return (
        f"{what} {', '.join(classifier.head)}: {free:,} of {total:,} parameters train "
        f"({100 * free / total:.2f} %)"
    )


def unusual(params: Params) -> list[str]:
    """Return a line for each setting that rarely makes sense."""
    lines = []
    lora, train = params.lora, params.train
    if train.method == "full":
        return []
    scale = lora.lora_alpha / (math.sqrt(lora.r) if lora.use_rslora else lora.r)
    if scale < 0.5:
        lines.append(
            f"lora.lora_alpha {lora.lora_alpha:g} with r {lora.r} scales the update by {scale:g}: "
            "it acts like a smaller learning rate; 1 to 2 times r is usual"
        )
    if 0 < train.learning_rate < FULL_FINE_TUNING_RATE:
        lines.append(
            f"train.learning_rate {train.learning_rate:g} suits full fine-tuning; "
            "LoRA wants about ten times more"
        )
    return lines


def fit(
    classifier: Classifier, train: Split, validation: Split, params: Params, hardware: Compute
) -> list[dict[str, float]]:
    """Train the classifier in place and return the log, one entry for each look.

    A training of the same inputs that was stopped goes on from its last whole checkpoint, to the
    same bytes. With train.epochs 0 nothing changes and the log is empty.
    """
    if params.train.epochs == 0:
        return []
    from stages.training import checkpoints
    from stages.training import trainer as training

    trainer = training.make_trainer(
        classifier, (train, validation), params.data, params.train, params.seed, hardware
    )
    last = checkpoints.take_up(checkpoints.inputs_of(params, hardware))
    if last:
        print(f"going on from {last}")
    trainer.train(resume_from_checkpoint=str(last) if last else None)
    return list(trainer.state.log_history)


def write_curves(history: list[dict[str, float]], folder: Path) -> None:
    """Write the curves as train.csv and validation.csv; losses are mean cross entropy in nats."""
    import pandas as pd

    columns = {
        "train.csv": {"loss": "loss", "learning_rate": "learning_rate"},
        "validation.csv": {"eval_loss": "loss", "eval_accuracy": "accuracy"},
    }
    folder.mkdir()
    for name, wanted in columns.items():
        wanted = {"step": "step", "epoch": "epoch"} | wanted
        rows = [
            {new: entry[old] for old, new in wanted.items()}
            for entry in history
            if set(wanted) <= set(entry)
        ]
        frame = pd.DataFrame(rows, columns=list(wanted.values()))
        frame.to_csv(folder / name, index=False, float_format="%.6g", lineterminator="\n")


if __name__ == "__main__":
    run_stage(train_lora)
