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
    base = fresh_base(setting, seed)
    model: nn.Module = AutoModelForSequenceClassification.from_pretrained(
        paths.BASE_MODEL, num_labels=len(setting.labels), local_files_only=True
    )
    if lora:
        model = get_peft_model(model, lora_config(base, setting.params.lora))
    train, held_out = (
        _encoded(split, base.tokenizer, setting.params.data.max_length, padded=not tuned)
        for split in (setting.train, setting.validation)
    )
    trainer = Trainer(
        model=model,
        args=_arguments(setting, steps, seed, tuned, lora),
        train_dataset=train,
        data_collator=DataCollatorWithPadding(base.tokenizer) if tuned else None,
    )

    def score() -> tuple[Any, Any]:
        output = trainer.predict(held_out)
        return output.predictions, output.label_ids

    return trainer, score


def _encoded(split: Split, tokenizer: Any, max_length: int, padded: bool) -> Dataset:
    """Return the rows' token ids, labels and lengths; padded to max_length if wanted."""
    padding = "max_length" if padded else False
    columns = tokenizer(split.texts, truncation=True, max_length=max_length, padding=padding)
    lengths = [sum(mask) for mask in columns["attention_mask"]]
    return Dataset.from_dict({**columns, "labels": split.targets, "length": lengths})


def _arguments(
    setting: Setting, steps: int, seed: int, tuned: bool, lora: bool
) -> TrainingArguments:
    train = setting.params.train
    return TrainingArguments(
        output_dir=str(paths.CHECKPOINTS),
        max_steps=steps + WARM_UP if steps else -1,
        num_train_epochs=train.epochs,
        warmup_steps=round(train.warmup_fraction * steps_of(setting)),
        per_device_train_batch_size=train.batch_size,
        per_device_eval_batch_size=SCORED_AT_ONCE,
        learning_rate=train.learning_rate if lora else train.full_learning_rate,
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
