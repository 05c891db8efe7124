"""The benchmark's contenders, each timed in a process of its own, so that none helps another.

`python -m stages.tools.benchmark.contenders NAME STEPS SEED` prints one line of JSON; with STEPS 0
it trains through.
"""

from __future__ import annotations

import json
import math
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from dataclasses import dataclass
from io import StringIO
from typing import TYPE_CHECKING, Any

from stages.core import paths
from stages.core.params import Params, load_params
from stages.running.stage import exit_code_of, set_environment

if TYPE_CHECKING:  # heavy libraries are imported once the params are known to be right
    from torch import nn

    from stages.model.classifier import Classifier
    from stages.model.device import Compute
    from stages.rows.prepared import Split

WARM_UP = 3  # optimiser steps that are not timed
SCORED_AT_ONCE = 32  # rows of an evaluation batch, where a Trainer scores
# Gives logits (rows, classes) and label numbers (rows,) of the validation rows, in one order: a
# Trainer that groups by length predicts in another than the rows stand in.
Scored = Callable[[], tuple[Any, Any]]


@dataclass(frozen=True)
class Setting:
    """What all contenders share."""

    params: Params
    hardware: Compute
    labels: list[str]
    train: Split
    validation: Split


def read_setting(tuned_process: bool) -> Setting:
    """Return params, rows and hardware; `tuned_process` sets up torch as the stages do.

    Raises:
        HostError: if the data or the base model are missing.
    """
    params = load_params()
    set_environment(params.compute)
    from stages.model import device as compute
    from stages.rows import prepared as splits

    hardware = compute.set_up(params.compute) if tuned_process else compute.chosen(params.compute)
    labels = splits.read_labels()
    return Setting(
        params,
        hardware,
        labels,
        splits.read_split(paths.TRAIN, labels),
        splits.read_split(paths.VALIDATION, labels),
    )


def time_one(name: str, setting: Setting, steps: int, seed: int) -> dict[str, float]:
    """Return a contender's rows per second in training and scoring, and validation accuracy.

    With 0 steps it trains for all epochs.
    """
    trainer, score = CONTENDERS[name](setting, steps, seed)
    marks: list[float] = []
    trainer.add_callback(_stopwatch(marks))
    with _silence():
        trainer.train()
    timed = len(marks) - 1 - WARM_UP
    train_speed = timed * setting.params.train.batch_size / (marks[-1] - marks[WARM_UP])
    start = time.perf_counter()
    with _silence():
        logits, labels = score()
    score_speed = len(logits) / (time.perf_counter() - start)
    right = sum(int(row.argmax()) == int(label) for row, label in zip(logits, labels, strict=True))
    return {"training": train_speed, "scoring": score_speed, "accuracy": right / len(labels)}


def _stopwatch(marks: list[float]) -> Any:
    from transformers import TrainerCallback

    class Stopwatch(TrainerCallback):
        def on_step_end(self, *_: Any, **__: Any) -> None:
            marks.append(time.perf_counter())

    return Stopwatch()


@contextmanager
def _silence() -> Iterator[None]:
    with redirect_stdout(StringIO()), redirect_stderr(StringIO()):
        yield


def make_ours(setting: Setting, steps: int, seed: int) -> tuple[Any, Scored]:
    """Return our Trainer, stopped after so many steps, and our scoring."""
    from stages.model import classifier as model
    from stages.model import frozen
    from stages.model import lora as adapter
    from stages.scoring import logits as scoring
    from stages.training.trainer import make_trainer

    params = setting.params
    base = fresh(setting, seed)
    model.load_head(base, paths.HEAD)
    classifier = adapter.attach_lora(base, params.lora)
    trainer = make_trainer(
        classifier,
        (setting.train, setting.validation),
        params.data,
        params.train.model_copy(update={"patience": 0}),  # there is no look at validation
        seed,
        setting.hardware,
    )
    trainer.args.max_steps = steps + WARM_UP if steps else -1
    trainer.args.eval_strategy = trainer.args.save_strategy = "no"
    trainer.args.load_best_model_at_end = False

    def score() -> tuple[Any, Any]:
        ready = frozen.merge_lora(classifier)
        frozen.round_frozen(ready, setting.hardware)
        logits = scoring.predict_logits(
            ready, setting.validation.texts, params.data.max_length, setting.hardware, "x"
        )
        return logits, setting.validation.targets

    return trainer, score


def make_tutorial(setting: Setting, steps: int, seed: int) -> tuple[Any, Scored]:
    """Return PEFT and Trainer as course notebooks use them."""
    return _plain(setting, steps, seed, tuned=False, lora=True)


def make_tuned(setting: Setting, steps: int, seed: int) -> tuple[Any, Scored]:
    """Return PEFT and Trainer with the options that make them fast."""
    return _plain(setting, steps, seed, tuned=True, lora=True)


def make_full(setting: Setting, steps: int, seed: int) -> tuple[Any, Scored]:
    """Return full fine-tuning with the tuned Trainer."""
    return _plain(setting, steps, seed, tuned=True, lora=False)


CONTENDERS = {
    "tutorial": make_tutorial,
    "tuned": make_tuned,
    "full": make_full,
    "ours": make_ours,
}


def _plain(setting: Setting, steps: int, seed: int, tuned: bool, lora: bool) -> tuple[Any, Scored]:
    """Return a Trainer as the library gives it, without a line of ours in the loop."""
    from datasets import Dataset
    from peft import LoraConfig, get_peft_model
    from transformers import (
        AutoModelForSequenceClassification,
        DataCollatorWithPadding,
        Trainer,
        TrainingArguments,
    )

    from stages.model.lora import resolve_targets

    params = setting.params
    base = fresh(setting, seed)
    targets = resolve_targets(base, params.lora.target_modules)
    model: nn.Module = AutoModelForSequenceClassification.from_pretrained(
        paths.BASE_MODEL, num_labels=len(setting.labels), local_files_only=True
    )
    if lora:
        config = LoraConfig(
            r=params.lora.r,
            lora_alpha=int(params.lora.lora_alpha),
            lora_dropout=params.lora.lora_dropout,
            target_modules=targets,
            task_type="SEQ_CLS",
        )
        model = get_peft_model(model, config)
    padding = False if tuned else "max_length"

    def encoded(split: Split) -> Any:
        columns = base.tokenizer(
            split.texts, truncation=True, max_length=params.data.max_length, padding=padding
        )
        lengths = [sum(mask) for mask in columns["attention_mask"]]
        return Dataset.from_dict({**columns, "labels": split.targets, "length": lengths})

    arguments = TrainingArguments(
        output_dir=str(paths.CHECKPOINTS),
        max_steps=steps + WARM_UP if steps else -1,
        num_train_epochs=params.train.epochs,
        warmup_steps=round(params.train.warmup_fraction * steps_of(setting)),
        per_device_train_batch_size=params.train.batch_size,
        per_device_eval_batch_size=SCORED_AT_ONCE,
        learning_rate=params.train.learning_rate if lora else params.train.full_learning_rate,
        bf16=tuned and setting.hardware.bf16,
        bf16_full_eval=tuned and setting.hardware.bf16,
        train_sampling_strategy="group_by_length" if tuned else "random",
        length_column_name="length",
        use_cpu=setting.hardware.device.type == "cpu",
        save_strategy="no",
        report_to="none",
        disable_tqdm=True,
        logging_steps=1000,
        dataloader_pin_memory=False,
        seed=seed,
    )
    trainer = Trainer(
        model=model,
        args=arguments,
        train_dataset=encoded(setting.train),
        data_collator=DataCollatorWithPadding(base.tokenizer) if tuned else None,
    )
    held_out = encoded(setting.validation)

    def score() -> tuple[Any, Any]:
        found = trainer.predict(held_out)
        return found.predictions, found.label_ids

    return trainer, score


def steps_of(setting: Setting) -> int:
    """Return the optimiser steps of all epochs."""
    train = setting.params.train
    return math.ceil(len(setting.train.ids) / train.batch_size) * train.epochs


def fresh(setting: Setting, seed: int) -> Classifier:
    """Return the base model with a fresh head."""
    from stages.model.classifier import load_base

    return load_base(paths.BASE_MODEL, setting.labels, seed)


def main(name: str, steps: str, seed: str) -> None:
    """Time one contender and print what was measured as a line of JSON."""
    setting = read_setting(tuned_process=name == "ours")
    print(json.dumps(time_one(name, setting, int(steps), int(seed))))


if __name__ == "__main__":
    sys.exit(exit_code_of(lambda: main(*sys.argv[1:])))
