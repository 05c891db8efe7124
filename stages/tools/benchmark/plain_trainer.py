"""PEFT and Trainer as the libraries give them, without a line of this project in the loop."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from datasets import Dataset
from peft import get_peft_model
from torch import nn
from transformers import (
    AutoModelForSequenceClassification,
    DataCollatorWithPadding,
    Trainer,
    TrainingArguments,
)

from stages.core import paths
from stages.model.lora import lora_config
from stages.rows.prepared import Split
from stages.tools.benchmark.setting import WARM_UP, Setting, fresh_base, steps_of

SCORED_AT_ONCE = 32  # rows of an evaluation batch
# Gives logits (rows, classes) and label numbers (rows,) of the validation rows in one order; a
# Trainer that groups by length predicts in another order than that of the rows.
Scored = Callable[[], tuple[Any, Any]]


def plain_trainer(
    setting: Setting, steps: int, seed: int, tuned: bool, lora: bool
) -> tuple[Any, Scored]:
    """Return a Trainer as the library gives it, and its scoring.

    Args:
        setting: what all contenders share.
        steps: after which it stops, more than the warm-up; 0 trains for all epochs.
        seed: of training.
        tuned: dynamic padding, batches of similar length, bf16 where the machine has it.
        lora: whether LoRA trains, with the fields of params.yaml, or every weight.
    """
    params = setting.params
    base = fresh_base(setting, seed)
    model: nn.Module = AutoModelForSequenceClassification.from_pretrained(
        paths.BASE_MODEL, num_labels=len(setting.labels), local_files_only=True
    )
    if lora:
        model = get_peft_model(model, lora_config(base, params.lora))
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
        bf16=tuned and setting.device.bf16,
        bf16_full_eval=tuned and setting.device.bf16,
        train_sampling_strategy="group_by_length" if tuned else "random",
        length_column_name="length",
        use_cpu=setting.device.is_cpu,
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
        output = trainer.predict(held_out)
        return output.predictions, output.label_ids

    return trainer, score
