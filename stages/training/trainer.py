"""The training loop: Hugging Face's Trainer, with validation scored as the test rows will be."""

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy, normalize
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
from stages.core.errors import NumericsError, ParamsError
from stages.core.params import Params
from stages.model.classifier import Classifier, encoder_of
from stages.model.device import Device, share_of
from stages.model.head import TEMPERATURE, divide_logits, put_head
from stages.model.methods import method_of
from stages.model.tokens import encode
from stages.rows.prepared import Split
from stages.running import processes
from stages.scoring.logits import fit_temperature, predict_logits, probabilities_of
from stages.training import checkpoints
from stages.training.averaging import WeightAverage
from stages.training.data import (
    Collator,
    EpochSampler,
    OwnRandomNumbers,
    Plan,
    TrainingRows,
    plan_of,
)


def contrastive_loss(states: Tensor, targets: Tensor) -> Tensor:
    """Return the mean over the rows that have a partner of their class in the batch, in nats.

    Khosla et al. 2020, arXiv 2004.11362, the loss whose sum over the partners is outside the log.

    Args:
        states: (rows, hidden).
        targets: label numbers, (rows,).
    """
    states = normalize(states, dim=1)
    own = torch.eye(len(states), dtype=torch.bool, device=states.device)
    similarities = (states @ states.T / TEMPERATURE).masked_fill(own, -torch.inf)
    log_shares = similarities.log_softmax(dim=1).masked_fill(own, 0.0)
    partners = (targets[:, None] == targets[None]) & ~own
    counts = partners.sum(dim=1)
    of_rows = -(log_shares * partners).sum(dim=1) / counts.clamp(min=1)
    return of_rows.sum() / (counts > 0).sum().clamp(min=1)


class EvaluationLines(TrainerCallback):
    """One plain line for each evaluation step, above the progress bar where there is one."""

    def on_evaluate(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:  # noqa: ARG002  # the Trainer's signature
        """Print step, validation loss and accuracy."""
        latest = state.log_history[-1]
        tqdm.write(
            f"step {state.global_step} of {state.max_steps}: "
            f"validation loss {latest['eval_loss']:.4f}, accuracy {latest['eval_accuracy']:.4f}"
        )


class Steps(TrainerCallback):
    """Evaluate and save the last step too, and log the training loss wherever a step is saved.

    The Trainer keeps the sum of the losses since its last log in memory alone: a training that
    continues from a checkpoint would otherwise average fewer steps.
    """

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:  # noqa: ARG002  # the Trainer's signature
        """Ask for what is due after this step."""
        if state.global_step == state.max_steps:
            control.should_evaluate = True
            control.should_save = args.save_strategy != "no"
        control.should_log = control.should_log or control.should_evaluate


class LossBar(ProgressCallback):
    """The Trainer's progress bar without its dump of every log entry; the bar shows the loss."""

    def on_log(self, args: Any, state: Any, control: Any, logs: Any = None, **kwargs: Any) -> None:  # noqa: ARG002  # the Trainer's signature
        """Show the training loss in the bar."""
        if self.training_bar is not None and logs and "loss" in logs:
            self.training_bar.set_postfix(loss=f"{float(logs['loss']):.3f}")


LEARNED = 0.1  # nats; a training loss below leaves little gradient
LOG_EVERY = 10  # optimiser steps
SCHEDULES = {"linear": "linear", "cosine": "cosine", "constant": "constant_with_warmup"}


@dataclass(frozen=True)
class Start:
    """What a training starts from.

    Attributes:
        layer: the path of the head's last layer in the base, as `head.last_layer` returns it.
        head: the head's state by the base's names.
    """

    layer: str
    head: dict[str, Tensor]


@dataclass(frozen=True)
class Training:
    """What a training did.

    Attributes:
        history: the Trainer's log, one entry for each evaluation step among others.
        kept: "trained", or "base" where validation finds the base better: the classifier then has
            the base's head and an untrained adapter.
        temperature: what the logits have been divided by, None where the base is kept.
    """

    history: list[dict[str, float]]
    kept: str
    temperature: float | None = None


def train(
    classifier: Classifier,
    splits: tuple[Split, Split],
    params: Params,
    device: Device,
    start: Start,
) -> Training:
    """Train the classifier in place; what validation finds worse than the base is not kept.

    What is kept has its logits divided by the temperature that suits the validation rows, so that
    its probabilities can be taken as they are.

    A training of the same inputs that was stopped continues from its last complete checkpoint, to
    the same bytes. With train.epochs 0 nothing changes and the log is empty.

    Args:
        classifier: with its method attached, and still equal to the base.
        splits: training and validation rows.
        params: the settings.
        device: what to run on.
        start: the head to train from.
    """
    plan = plan_of(params.train, splits[0].targets, len(splits[1].ids))
    if plan.steps == 0:
        return Training([], "base")
    validation = splits[1]
    base = predict_logits(
        classifier, validation.texts, params.data.max_length, device, "validation"
    )
    trains = [p for p in classifier.model.parameters() if p.requires_grad]
    untrained = [p.detach().clone() for p in trains]
    put_head(classifier, start.head)
    trainer = ClassifierTrainer(classifier, splits, params, device)
    last = processes.from_first(
        lambda: checkpoints.last_usable(checkpoints.inputs_of(params, device))
    )
    if last:
        print(f"continuing from {last}")
        trainer.average.resume(last)
    trainer.train(resume_from_checkpoint=str(last) if last else None)
    best = trainer.state.best_model_checkpoint if plan.chooses else None
    folder = Path(best or paths.CHECKPOINTS / f"checkpoint-{trainer.state.global_step}")
    trainer.average.finish(folder)
    processes.wait_for_all()  # the checkpoints are removed next
    history = list(trainer.state.log_history)
    first = next(entry["loss"] for entry in history if "loss" in entry)
    if first < LEARNED:
        print(
            f"warning: the training loss is {first:.3f} in the first steps: the head knows the "
            "training rows already, so little is left to learn. Fix: train.start: means"
        )
    after = predict_logits(
        classifier, validation.texts, params.data.max_length, device, "validation"
    )
    scaled = params.train.select_by == "scaled_loss"
    losses = [
        row_losses(logits, validation.targets, scaled, plan.weights) for logits in (base, after)
    ]
    if not finds_worse(losses[1] - losses[0], plan.chooses):
        temperature = fit_temperature(probabilities_of(after), validation.targets)
        divide_logits(classifier, start.layer, temperature)
        return Training(history, "trained", temperature)
    print(
        f"validation finds the base better (log loss {losses[0].mean():.4f}, trained "
        f"{losses[1].mean():.4f}): the base is kept"
    )
    with torch.no_grad():
        for parameter, value in zip(trains, untrained, strict=True):
            parameter.copy_(value)
    return Training(history, "base")


def row_losses(
    logits: Tensor, targets: list[int], scaled: bool, weights: tuple[float, ...] | None = None
) -> Tensor:
    """Return the log loss of each row in nats (rows,), times the weight of its class.

    Args:
        logits: shape (rows, classes).
        targets: label numbers.
        scaled: whether the logits are divided by their temperature first.
        weights: one a class; None is 1 for all.
    """
    logits = logits.double()
    if scaled:
        logits = logits / fit_temperature(probabilities_of(logits), targets)
    by_class = None if weights is None else torch.tensor(weights, dtype=torch.float64)
    return cross_entropy(logits, torch.tensor(targets), weight=by_class, reduction="none")


def finds_worse(differences: Tensor, chooses: bool) -> bool:
    """Return whether validation finds the trained weights worse than the base.

    Args:
        differences: log loss of the trained weights minus that of the base, one a row.
        chooses: whether there are enough rows to choose; of fewer the mean has to be more than
            its standard error above zero.
    """
    margin = 0.0 if chooses else float(differences.std() / len(differences) ** 0.5)
    return float(differences.mean()) > margin


def _arguments(params: Params, plan: Plan, device: Device, checkpointed: bool) -> TrainingArguments:
    settings = params.train
    arguments = TrainingArguments(
        output_dir=str(paths.CHECKPOINTS),
        max_steps=plan.steps,
        per_device_train_batch_size=settings.batch_size,
        # Each process takes its share of each batch; the last one of a pass is filled up for that.
        accelerator_config={"split_batches": device.processes > 1},
        learning_rate=method_of(params).learning_rate(settings),
        lr_scheduler_type=SCHEDULES[settings.schedule],
        warmup_steps=round(settings.warmup_fraction * plan.steps),
        weight_decay=settings.weight_decay,
        max_grad_norm=settings.max_grad_norm,
        bf16=device.bf16,
        use_cpu=device.is_cpu,
        seed=params.seed,
        eval_strategy="steps",
        eval_steps=plan.interval,
        save_strategy="steps" if checkpointed else "no",
        save_steps=plan.interval,
        save_total_limit=2,  # in case the last one is damaged
        restore_callback_states_from_checkpoint=True,
        load_best_model_at_end=checkpointed and plan.chooses,
        metric_for_best_model=f"eval_{settings.select_by}",
        greater_is_better=False,
        logging_steps=min(LOG_EVERY, plan.interval),
        logging_nan_inf_filter=False,
        remove_unused_columns=False,
        dataloader_pin_memory=device.kind.pins_memory,
        report_to="none",
        # Weights that a step does not use are found in the first step; they stay the same ones.
        ddp_find_unused_parameters=False,
        ddp_static_graph=True,
        ddp_broadcast_buffers=False,
        average_tokens_across_devices=False,  # the shares are of one size
    )
    arguments._n_gpu = min(arguments.n_gpu, 1)  # a process uses one GPU, however many there are
    return arguments


class ClassifierTrainer(Trainer):
    """A Trainer that scores validation by the pipeline's own path, and stops at the first NaN.

    The best checkpoint by train.select_by is restored at the end; early stopping uses the same
    figure. Where validation has too few rows to choose, neither happens. Batches hold rows of
    similar length, so little of them is padding. Several processes share each batch, so that the
    steps are those of one; a last batch that is not full has rows of the first beside its own.

    Args:
        classifier: with its method attached.
        splits: training and validation rows.
        params: the settings.
        device: what to run on.
        checkpointed: without checkpoints it goes the same way and ends with its last weights.

    Raises:
        ParamsError: if several processes cannot share a batch.
    """

    def __init__(
        self,
        classifier: Classifier,
        splits: tuple[Split, Split],
        params: Params,
        device: Device,
        checkpointed: bool = True,
    ) -> None:
        rows, self.validation = splits
        settings = params.train
        rank, size = processes.share()
        share_of(settings.batch_size, size)
        plan = plan_of(settings, rows.targets, len(self.validation.ids))
        if plan.contrastive and size > 1:
            raise ParamsError(
                f"params.yaml: train.contrastive: its weight is {plan.contrastive:.2g} for these "
                "rows, and it compares the rows of whole batches, which several processes share",
                "set compute.processes to 1, or train.contrastive to 0",
            )
        self.classifier, self.params, self.plan, self.device = classifier, params, plan, device
        self.average = WeightAverage(classifier.model, settings.ema_decay)
        self.train_ids, self.validation_logits = rows.ids, Tensor()
        encoded = encode(classifier.tokenizer, rows.texts, params.data.max_length)
        dataset = TrainingRows(encoded, rows.targets)
        stops = settings.patience and plan.chooses
        stopping = [EarlyStoppingCallback(settings.patience)] if stops else []
        super().__init__(
            model=classifier.model,
            args=_arguments(params, plan, device, checkpointed),
            train_dataset=dataset,
            eval_dataset=dataset,
            data_collator=Collator(classifier.tokenizer.pad_token_id),
            callbacks=[self.average, checkpoints.Seal(), Steps(), *stopping],
        )
        self.remove_callback(PrinterCallback)
        self.remove_callback(ProgressCallback)
        self.add_callback(EvaluationLines)
        if rank > 0:
            self.add_callback(OwnRandomNumbers(params.seed, rank))
        elif sys.stderr.isatty():
            self.add_callback(LossBar)
        if plan.contrastive:
            encoder_of(classifier.model).register_forward_hook(self._keep_states)

    def _keep_states(self, _: Any, __: Any, output: Any) -> None:
        """Keep the state that the head reads, where a pooler does not make it: (rows, hidden)."""
        self.states = output.last_hidden_state[:, 0].float()

    def _get_train_sampler(self, train_dataset: Any = None) -> EpochSampler:
        dataset: Any = train_dataset or self.train_dataset
        lengths = dataset.encoded.lengths.tolist()
        return EpochSampler(self.args.train_batch_size, lengths, self.args.seed)

    def compute_loss(self, model: Any, inputs: dict[str, Any], *_: Any, **__: Any) -> Tensor:
        """Return the mean loss of a batch, or of this process's share of it."""
        targets = inputs.pop("labels")
        logits = model(**inputs).logits.float()
        weights, smoothing = self.plan.weights, self.params.train.label_smoothing
        by_class = None if weights is None else logits.new_tensor(weights)
        loss: Tensor = (1 / len(targets)) * cross_entropy(
            logits, targets, by_class, reduction="sum", label_smoothing=smoothing
        )
        if self.plan.contrastive:
            loss = loss + self.plan.contrastive * contrastive_loss(self.states, targets)
        return loss

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
        texts, targets, weights = self.validation.texts, self.validation.targets, self.plan.weights
        length = self.params.data.max_length
        with self.average.in_place():
            logits = predict_logits(self.classifier, texts, length, self.device, "validation")
        self.validation_logits = logits
        metrics = {
            "eval_loss": float(row_losses(logits, targets, False, weights).mean()),
            "eval_scaled_loss": float(row_losses(logits, targets, True, weights).mean()),
            "eval_accuracy": float((logits.argmax(dim=1) == torch.tensor(targets)).double().mean()),
        }
        self.log(metrics)
        self.control = self.callback_handler.on_evaluate(
            self.args, self.state, self.control, metrics
        )
        return metrics
