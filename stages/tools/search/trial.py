"""One trial: a training in the pipeline's own code path, scored on validation alone."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy
from transformers import TrainerCallback

from stages.core import paths
from stages.core.params import Params
from stages.model.base import load_base
from stages.model.classifier import Classifier
from stages.model.device import Device
from stages.model.fast.layer import speed_up
from stages.model.head import Features, fit_head, freeze_encoder, mean_start
from stages.model.methods import method_of
from stages.rows.prepared import Split, read_labels, read_split
from stages.scoring.logits import cached_features, probabilities_of
from stages.scoring.temperature import fit_temperature
from stages.training.trainer import make_trainer

Report = Callable[[float, int], bool]


@dataclass(frozen=True)
class Outcome:
    """What a training reached at its best evaluation step.

    Attributes:
        loss: validation log loss by train.select_by, mean in nats.
        accuracy: share of the validation rows that are right.
        losses: log loss of each validation row, (rows,).
        right: whether each validation row is right, (rows,).
        epochs: passes over the training rows until then.
        seconds: of the whole training.
        pruned: whether it was stopped as hopeless.
    """

    loss: float
    accuracy: float
    losses: Tensor
    right: Tensor
    epochs: float
    seconds: float
    pruned: bool


@dataclass
class Trials:
    """Trainings on the same rows and base; what does not depend on a trial is computed once.

    Attributes:
        device: what they run on.
        labels: class names in the order of the logits.
        train: rows to train on.
        validation: rows to choose on.
    """

    device: Device
    labels: list[str] = field(default_factory=read_labels)
    train: Split = field(init=False)
    validation: Split = field(init=False)
    _features: dict[Any, tuple[Features, Features]] = field(default_factory=dict)
    _heads: dict[Any, dict[str, Tensor]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.train = read_split(paths.TRAIN, self.labels)
        self.validation = read_split(paths.VALIDATION, self.labels)

    def run(self, params: Params, report: Report | None = None) -> Outcome:
        """Train with these params as stage train_lora does, and return the best evaluation step.

        Args:
            params: the settings.
            report: takes the validation log loss and thousandths of an epoch at each evaluation
                step, and returns whether to stop there.

        Raises:
            NumericsError: if the loss is not finite.
            ParamsError: if a setting does not fit the model.
        """
        start = time.monotonic()
        base = self._load(params, params.train.attention_dropout)
        base.model.load_state_dict(self._head_of(params), strict=False)
        classifier = method_of(params).attach(base, params)
        speed_up(classifier, self.device, params.seed)
        best = _Best(self.validation.targets, params.train.select_by, report)
        trainer = make_trainer(
            classifier, (self.train, self.validation), params, self.device, checkpointed=False
        )
        best.logits = lambda: trainer.validation_logits
        trainer.add_callback(best)
        trainer.train()
        return best.outcome(time.monotonic() - start)

    def _load(self, params: Params, attention_dropout: float | None = None) -> Classifier:
        return load_base(
            paths.BASE_MODEL,
            self.labels,
            params.seed,
            self.device,
            params.model.pooling,
            attention_dropout,
        )

    def _head_of(self, params: Params) -> dict[str, Tensor]:
        """Return the head to start from, made as stage evaluate_base makes it."""
        encoder = (params.model.pooling, params.data.max_length)
        key = (*encoder, params.seed, params.train.start, tuple(params.head.l2))
        if key not in self._heads:
            base = self._load(params)
            freeze_encoder(base)
            speed_up(base, self.device, params.seed)
            if encoder not in self._features:
                train, validation = (
                    cached_features(base, split.texts, encoder[1], self.device, "features")
                    for split in (self.train, self.validation)
                )
                self._features[encoder] = (train, validation)
            train, validation = self._features[encoder]
            base.model.cpu()
            rows = (train, self.train.targets)
            if params.train.start == "means":
                self._heads[key] = mean_start(base, rows)
            else:
                fit_head(base, rows, (validation, self.validation.targets), params.head.l2)
                self._heads[key] = base.head_state()
        return self._heads[key]


class _Best(TrainerCallback):
    """Keep the best evaluation step, report each, and stop where the report says so."""

    def __init__(self, truth: list[int], select_by: str, report: Report | None) -> None:
        self.truth, self.select_by, self.report = truth, select_by, report
        self.logits: Callable[[], Tensor]
        self.loss, self.epochs = float("inf"), 0.0
        self.kept = torch.zeros(0)
        self.pruned = False

    def on_evaluate(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:  # noqa: ARG002  # the Trainer's signature
        loss = kwargs["metrics"][f"eval_{self.select_by}"]
        if loss < self.loss:
            self.loss, self.kept, self.epochs = loss, self.logits(), state.epoch
        if self.report and self.report(loss, round(1000 * state.epoch)):
            self.pruned = control.should_training_stop = True

    def outcome(self, seconds: float) -> Outcome:
        truth, logits = torch.tensor(self.truth), self.kept.double()
        if self.select_by == "scaled_loss":
            logits /= fit_temperature(probabilities_of(logits), self.truth)
        losses = cross_entropy(logits, truth, reduction="none")
        right = logits.argmax(dim=1) == truth
        accuracy = float(right.double().mean())
        return Outcome(self.loss, accuracy, losses, right, self.epochs, seconds, self.pruned)
