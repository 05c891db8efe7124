"""The training loop: Hugging Face's Trainer, with validation scored as the test rows will be."""

from __future__ import annotations

import math
import sys
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy
from tqdm.auto import tqdm
from transformers import (
    EarlyStoppingCallback,
    ProgressCallback,
    Trainer,
    TrainerCallback,
    TrainingArguments,
)
from transformers.trainer_callback import PrinterCallback

from stages.core import paths
from stages.core.errors import NumericsError
from stages.core.params import DataParams, TrainParams
from stages.model.classifier import Classifier
from stages.model.device import Compute
from stages.model.fast.dropout import pool_dropout
from stages.model.fast.projections import fused_projections
from stages.model.frozen import round_frozen
from stages.model.tokens import Encoded, encode, padded
from stages.rows.prepared import Split
from stages.scoring import logits as scoring
from stages.training.checkpoints import EpochSampler, Seal

LOG_EVERY = 10


class ClassifierTrainer(Trainer):
    """A Trainer that scores validation by the pipeline's own path, and stops at the first NaN."""

    def __init__(
        self, classifier: Classifier, train: Split, validation: Split, **options: Any
    ) -> None:
        super().__init__(model=classifier.model, **options)
        self.classifier = classifier
        self.train_ids = train.ids
        self.validation = validation
        self.hardware: Compute
        self.max_length: int

    def train(self, *arguments: Any, **options: Any) -> Any:
        """Train as the Trainer does, with what reads the same states computed together."""
        with fused_projections(self.classifier.model):
            return super().train(*arguments, **options)

    def _get_train_sampler(self, train_dataset: Any = None) -> EpochSampler:
        dataset: Any = train_dataset or self.train_dataset
        lengths = dataset.encoded.lengths.tolist()
        return EpochSampler(self.args.train_batch_size, lengths, self.args.seed)

    def training_step(
        self, model: Any, inputs: dict[str, Any], num_items_in_batch: Any = None
    ) -> Tensor:
        """Take one step on a batch.

        Raises:
            NumericsError: if the loss is not finite, naming step, learning rate and rows.
        """
        rows = inputs.pop("rows")
        loss: Tensor = super().training_step(model, inputs, num_items_in_batch)
        if not bool(torch.isfinite(loss)):
            rate = self._get_learning_rate()
            named = ", ".join(self.train_ids[row] for row in rows[:5])
            raise NumericsError(
                f"training: the loss is not finite at step {self.state.global_step + 1}, "
                f"learning rate {rate:.3g}, rows {named}, ...",
                "lower the learning rate in params.yaml: train, or set compute.precision to fp32",
            )
        return loss

    def evaluate(self, *_: Any, **__: Any) -> dict[str, float]:
        """Return validation log loss (nats) and accuracy, and tell the callbacks."""
        logits = scoring.predict_logits(
            self.classifier, self.validation.texts, self.max_length, self.hardware, "validation"
        )
        truth = torch.tensor(self.validation.targets)
        metrics = {
            "eval_loss": float(cross_entropy(logits, truth)),
            "eval_accuracy": float((logits.argmax(dim=1) == truth).double().mean()),
        }
        self.log(metrics)
        self.control = self.callback_handler.on_evaluate(
            self.args, self.state, self.control, metrics
        )
        return metrics


class Lines(TrainerCallback):
    """One plain line for each look at validation, above the progress bar where there is one."""

    def on_evaluate(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:  # noqa: ARG002  # the Trainer's signature
        """Print step, validation loss and accuracy."""
        looked = state.log_history[-1]
        tqdm.write(
            f"step {state.global_step} of {state.max_steps}: "
            f"validation loss {looked['eval_loss']:.4f}, accuracy {looked['eval_accuracy']:.4f}"
        )


class Bar(ProgressCallback):
    """The Trainer's progress bar without its dump of every log entry; the bar shows the loss."""

    def on_log(self, args: Any, state: Any, control: Any, logs: Any = None, **kwargs: Any) -> None:  # noqa: ARG002  # the Trainer's signature
        """Show the training loss in the bar."""
        if self.training_bar is not None and logs and "loss" in logs:
            self.training_bar.set_postfix(loss=f"{float(logs['loss']):.3f}")


def make_trainer(
    classifier: Classifier,
    splits: tuple[Split, Split],
    data: DataParams,
    train: TrainParams,
    seed: int,
    hardware: Compute,
) -> ClassifierTrainer:
    """Return a Trainer for the classifier on (train, validation).

    The best checkpoint by validation log loss is put back at the end; early stopping looks at the
    same figure. Batches hold rows of like length, so little of them is padding.
    """
    round_frozen(classifier, hardware)
    if hardware.device.type == "cpu":
        pool_dropout(classifier.model, seed)
    rows, validation = splits
    encoded = encode(classifier.tokenizer, rows.texts, data.max_length)
    dataset = _Rows(encoded, rows.targets)
    steps = math.ceil(len(encoded) / train.batch_size)
    trainer = ClassifierTrainer(
        classifier,
        rows,
        validation,
        args=_arguments(train, seed, steps, hardware),
        train_dataset=dataset,
        eval_dataset=dataset,
        data_collator=_Collator(classifier.tokenizer.pad_token_id),
        callbacks=[Seal(), *([EarlyStoppingCallback(train.patience)] if train.patience else [])],
    )
    trainer.hardware = hardware
    trainer.max_length = data.max_length
    trainer.remove_callback(PrinterCallback)
    trainer.remove_callback(ProgressCallback)
    trainer.add_callback(Lines)
    if sys.stderr.isatty():
        trainer.add_callback(Bar)
    return trainer


def _arguments(
    train: TrainParams, seed: int, steps_per_epoch: int, hardware: Compute
) -> TrainingArguments:
    look = math.ceil(steps_per_epoch / train.evaluations_per_epoch)
    return TrainingArguments(
        output_dir=str(paths.CHECKPOINTS),
        num_train_epochs=train.epochs,
        per_device_train_batch_size=train.batch_size,
        learning_rate=train.learning_rate if train.method == "lora" else train.full_learning_rate,
        lr_scheduler_type=train.schedule
        if train.schedule != "constant"
        else "constant_with_warmup",
        warmup_steps=round(train.warmup_fraction * steps_per_epoch * train.epochs),
        weight_decay=train.weight_decay,
        max_grad_norm=train.max_grad_norm,
        bf16=hardware.bf16,
        use_cpu=hardware.device.type == "cpu",
        seed=seed,
        eval_strategy="steps",
        eval_steps=look,
        save_strategy="steps",
        save_steps=look,
        save_total_limit=2,  # should the last one be damaged
        restore_callback_states_from_checkpoint=True,
        load_best_model_at_end=True,
        metric_for_best_model="eval_loss",
        greater_is_better=False,
        logging_steps=min(LOG_EVERY, look),
        logging_nan_inf_filter=False,
        remove_unused_columns=False,
        dataloader_pin_memory=hardware.device.type == "cuda",
        report_to="none",
    )


class _Rows(torch.utils.data.Dataset[dict[str, Any]]):
    """The training rows: token ids, label number, and the row's own number."""

    def __init__(self, encoded: Encoded, targets: list[int]) -> None:
        self.encoded, self.targets = encoded, targets

    def __len__(self) -> int:
        return len(self.encoded)

    def __getitem__(self, row: int) -> dict[str, Any]:
        return {"input_ids": self.encoded[row], "labels": self.targets[row], "rows": row}


class _Collator:
    """Pad a batch to its longest row: input_ids, attention_mask (rows, longest), labels, rows."""

    def __init__(self, pad_token_id: int) -> None:
        self.pad = pad_token_id

    def __call__(self, batch: list[Mapping[str, Any]]) -> dict[str, Any]:
        return {
            **padded([row["input_ids"] for row in batch], self.pad),
            "labels": torch.tensor([row["labels"] for row in batch]),
            "rows": [row["rows"] for row in batch],
        }
