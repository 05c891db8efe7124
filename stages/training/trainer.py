"""The training loop: Hugging Face's Trainer, with validation scored as the test rows will be."""

from __future__ import annotations

import math
import sys
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy
from transformers import (
    EarlyStoppingCallback,
    ProgressCallback,
    Trainer,
    TrainingArguments,
)
from transformers.trainer_callback import PrinterCallback

from stages.core import paths
from stages.core.errors import NumericsError
from stages.core.params import Params
from stages.model.classifier import Classifier
from stages.model.device import Device
from stages.model.methods import method_of
from stages.model.sharing import share_of
from stages.model.tokens import encode
from stages.rows.prepared import Split
from stages.running import processes as ranks
from stages.scoring.logits import predict_logits, probabilities_of
from stages.scoring.temperature import scaled_log_loss
from stages.training import checkpoints
from stages.training.averaging import WeightAverage
from stages.training.batches import Collator, TrainingRows
from stages.training.progress import EvaluationLines, LossBar
from stages.training.sampler import EpochSampler
from stages.training.sharing import OwnRandomNumbers, loss_of_share, shared_batches

LOG_EVERY = 10  # optimiser steps
SCHEDULES = {"linear": "linear", "cosine": "cosine", "constant": "constant_with_warmup"}


def train(
    classifier: Classifier, splits: tuple[Split, Split], params: Params, device: Device
) -> list[dict[str, float]]:
    """Train the classifier in place and return the log, one entry for each evaluation step.

    A training of the same inputs that was stopped continues from its last complete checkpoint, to
    the same bytes. With train.epochs 0 nothing changes and the log is empty.

    Args:
        classifier: with its method attached.
        splits: training and validation rows.
        params: the settings.
        device: what to run on.
    """
    if params.train.epochs == 0:
        return []
    trainer = make_trainer(classifier, splits, params, device)
    last = ranks.from_first(lambda: checkpoints.last_usable(checkpoints.inputs_of(params, device)))
    if last:
        print(f"continuing from {last}")
        trainer.average.resume(last)
    trainer.train(resume_from_checkpoint=str(last) if last else None)
    trainer.average.finish(Path(trainer.state.best_model_checkpoint or ""))
    ranks.wait_for_all()  # the checkpoints are removed next
    return list(trainer.state.log_history)


def make_trainer(
    classifier: Classifier,
    splits: tuple[Split, Split],
    params: Params,
    device: Device,
    checkpointed: bool = True,
) -> ClassifierTrainer:
    """Return a Trainer for the classifier on (training, validation) rows.

    The best checkpoint by train.select_by is restored at the end; early stopping uses the same
    figure. Batches hold rows of similar length, so little of them is padding. A training that is
    not checkpointed goes the same way and ends with its last weights. Several processes share each
    batch, so that the steps are those of one.

    Raises:
        ParamsError: if they cannot share it.
    """
    rows, validation = splits
    settings = params.train
    rank, size = ranks.share()
    share_of(settings.batch_size, size)
    encoded = encode(classifier.tokenizer, rows.texts, params.data.max_length)
    dataset = TrainingRows(encoded, rows.targets)
    steps = math.ceil(len(encoded) / settings.batch_size)
    stopping = [EarlyStoppingCallback(settings.patience)] if settings.patience else []
    average = WeightAverage(classifier.model, settings.ema_decay)
    trainer = ClassifierTrainer(
        classifier,
        rows,
        validation,
        args=_arguments(params, steps, device, checkpointed),
        train_dataset=dataset,
        eval_dataset=dataset,
        data_collator=Collator(classifier.tokenizer.pad_token_id),
        callbacks=[average, checkpoints.Seal(), *stopping],
    )
    trainer.average = average
    trainer.device = device
    trainer.max_length = params.data.max_length
    trainer.remove_callback(PrinterCallback)
    trainer.remove_callback(ProgressCallback)
    trainer.add_callback(EvaluationLines)
    if rank > 0:
        trainer.add_callback(OwnRandomNumbers(params.seed, rank))
    elif sys.stderr.isatty():
        trainer.add_callback(LossBar)
    return trainer


def _arguments(
    params: Params, steps_per_epoch: int, device: Device, checkpointed: bool
) -> TrainingArguments:
    settings = params.train
    interval = math.ceil(steps_per_epoch / settings.evaluations_per_epoch)
    arguments = TrainingArguments(
        output_dir=str(paths.CHECKPOINTS),
        num_train_epochs=settings.epochs,
        per_device_train_batch_size=share_of(settings.batch_size, device.processes),
        learning_rate=method_of(params).learning_rate(settings),
        lr_scheduler_type=SCHEDULES[settings.schedule],
        warmup_steps=round(settings.warmup_fraction * steps_per_epoch * settings.epochs),
        weight_decay=settings.weight_decay,
        max_grad_norm=settings.max_grad_norm,
        bf16=device.bf16,
        use_cpu=device.is_cpu,
        seed=params.seed,
        eval_strategy="steps",
        eval_steps=interval,
        save_strategy="steps" if checkpointed else "no",
        save_steps=interval,
        save_total_limit=2,  # in case the last one is damaged
        restore_callback_states_from_checkpoint=True,
        load_best_model_at_end=checkpointed,
        metric_for_best_model=f"eval_{settings.select_by}",
        greater_is_better=False,
        logging_steps=min(LOG_EVERY, interval),
        logging_nan_inf_filter=False,
        remove_unused_columns=False,
        dataloader_pin_memory=device.pins_memory,
        report_to="none",
        # Weights that a step does not use are found in the first step; they stay the same ones.
        ddp_find_unused_parameters=False,
        ddp_static_graph=True,
        ddp_broadcast_buffers=False,
        average_tokens_across_devices=False,  # the loss of a share has its weight already
    )
    arguments._n_gpu = min(arguments.n_gpu, 1)  # a process uses one GPU, however many there are
    return arguments


class ClassifierTrainer(Trainer):
    """A Trainer that scores validation by the pipeline's own path, and stops at the first NaN."""

    def __init__(
        self, classifier: Classifier, train: Split, validation: Split, **options: Any
    ) -> None:
        super().__init__(model=classifier.model, **options)
        self.classifier = classifier
        self.train_ids = train.ids
        self.validation = validation
        self.validation_logits: Tensor
        self.average: WeightAverage
        self.device: Device
        self.max_length: int

    def _get_train_sampler(self, train_dataset: Any = None) -> EpochSampler:
        dataset: Any = train_dataset or self.train_dataset
        lengths = dataset.encoded.lengths.tolist()
        batch_size = self.args.train_batch_size * self.device.processes
        return EpochSampler(batch_size, lengths, self.args.seed)

    def get_train_dataloader(self) -> Any:
        """Return the batches, or this process's share of each of them."""
        if self.device.processes == 1:
            return super().get_train_dataloader()
        collator: Any = self.data_collator
        return shared_batches(
            self.train_dataset, self._get_train_sampler(), collator, self.device.pins_memory
        )

    def compute_loss(self, model: Any, inputs: dict[str, Any], *rest: Any, **options: Any) -> Any:
        """Return the mean loss of a batch, or what this process adds to it."""
        if "weight" in inputs:
            return loss_of_share(model, inputs)
        return super().compute_loss(model, inputs, *rest, **options)

    def training_step(
        self, model: Any, inputs: dict[str, Any], num_items_in_batch: Any = None
    ) -> Tensor:
        """Take one step on a batch.

        Raises:
            NumericsError: if the loss is not finite, naming step, learning rate and rows.
        """
        rows = inputs.pop("rows")
        loss: Tensor = super().training_step(model, inputs, num_items_in_batch)
        if not bool(torch.isfinite(loss)):  # guard: finite loss
            rate = self._get_learning_rate()
            named = ", ".join(self.train_ids[row] for row in rows[:5])
            raise NumericsError(
                f"training: the loss is not finite at step {self.state.global_step + 1}, "
                f"learning rate {rate:.3g}, rows {named}, ...",
                "lower the learning rate in params.yaml: train, or set compute.precision to fp32",
            )
        return loss

    def evaluate(self, *_: Any, **__: Any) -> dict[str, float]:
        """Return validation log loss (nats), as it is and scaled, and accuracy; tell callbacks."""
        with self.average.in_place():
            logits = predict_logits(
                self.classifier, self.validation.texts, self.max_length, self.device, "validation"
            )
        self.validation_logits = logits
        truth = torch.tensor(self.validation.targets)
        metrics = {
            "eval_loss": float(cross_entropy(logits, truth)),
            "eval_scaled_loss": scaled_log_loss(probabilities_of(logits), self.validation.targets),
            "eval_accuracy": float((logits.argmax(dim=1) == truth).double().mean()),
        }
        self.log(metrics)
        self.control = self.callback_handler.on_evaluate(
            self.args, self.state, self.control, metrics
        )
        return metrics
