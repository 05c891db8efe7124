"""The training loop: it learns, moves only what it may, and keeps what validation likes best."""

from __future__ import annotations

import math
import shutil
from contextlib import chdir
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch.nn.functional import cross_entropy

from stages.core import paths
from stages.core.params import Params
from stages.model.classifier import Classifier
from stages.model.device import set_up
from stages.model.head import load_head
from stages.model.load import load_base
from stages.model.lora import attach_lora
from stages.model.methods import method_of
from stages.rows.prepared import Split, read_split
from stages.scoring.logits import predict_logits
from stages.training import data, trainer
from stages.training.curves import write_training_curves
from stages.training.trainer import ClassifierTrainer, Start, row_losses
from tests.support.tiny import COMPUTE, NAMES, changed

LABELS = list(NAMES[:2])


def start(params: Params) -> Classifier:
    """Return what train_lora starts from, in the current project."""
    base = load_base(paths.BASE_MODEL, LABELS, params.seed, set_up(COMPUTE), params.model.pooling)
    load_head(base, paths.HEAD)
    return attach_lora(base, params.lora)


def head_to_start_from() -> Start:
    """Return the base's fitted head, as params of the tests choose it."""
    return Start("classifier", load_file(paths.HEAD_WEIGHTS))


def splits() -> tuple[Split, Split]:
    return read_split(paths.TRAIN, LABELS), read_split(paths.VALIDATION, LABELS)


def looks_of(history: list[dict[str, float]]) -> tuple[list[float], list[float]]:
    """Return the validation loss of each evaluation step, and the loss once it is scaled."""
    looks = [entry for entry in history if "eval_loss" in entry]
    return [each["eval_loss"] for each in looks], [each["eval_scaled_loss"] for each in looks]


def loss_on(classifier: Classifier, split: Split) -> float:
    logits = predict_logits(classifier, split.texts, 32, set_up(COMPUTE), "loss")
    return float(cross_entropy(logits, torch.tensor(split.targets)))


def kept_loss(classifier: Classifier) -> float:
    """Return the validation loss of what was kept, whose logits are divided by a temperature."""
    return loss_on(classifier, splits()[1])


def state(classifier: Classifier) -> dict[str, torch.Tensor]:
    return {name: p.detach().clone() for name, p in classifier.model.named_parameters()}


def train(params: Params) -> tuple[Classifier, list[dict[str, float]]]:
    classifier = start(params)
    run = trainer.train(classifier, splits(), params, set_up(COMPUTE), head_to_start_from())
    return classifier, run.history


def test_training_lowers_the_loss_and_moves_only_lora_and_head(
    trained_adapter: tuple[Path, Classifier], params: Params
) -> None:
    folder, after = trained_adapter
    with chdir(folder):
        before = start(params)
        train_split = splits()[0]
        assert loss_on(after, train_split) < 0.9 * loss_on(before, train_split)
    old, new = state(before), state(after)
    assert old.keys() == new.keys()
    moved = {name for name in new if not torch.equal(old[name], new[name])}
    may = {name for name, p in after.model.named_parameters() if p.requires_grad}
    assert moved == may
    assert all("lora_" in name or "classifier.modules_to_save" in name for name in moved)
    assert len(moved) == 2 * 3 * 2 + 2


@pytest.fixture
def may_choose(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the few validation rows choose a checkpoint, but not the base in place of all of them."""
    monkeypatch.setattr(data, "ROWS_TO_CHOOSE", 1)
    monkeypatch.setattr(trainer, "finds_worse", lambda *_: False)


@pytest.mark.usefixtures("project", "may_choose")
@pytest.mark.parametrize("decay", [0.0, 0.5])
def test_the_best_weights_by_validation_are_kept(params: Params, decay: float) -> None:
    for rate in (0.05, 0.08, 0.12, 0.2):  # one after which the last step is not the best
        wild = changed(
            params,
            train__epochs=3,
            train__evaluations=6,
            train__ema_decay=decay,
            train__learning_rate=rate,
            train__schedule="constant",
            train__patience=0,
            train__select_by="loss",
        )
        classifier, history = train(wild)
        looks, scaled = looks_of(history)
        if min(looks) < looks[-1]:
            break
    assert len(looks) == 6
    assert min(looks) < looks[-1]
    assert kept_loss(classifier) == pytest.approx(scaled[looks.index(min(looks))], rel=1e-4)


@pytest.mark.usefixtures("project", "may_choose")
def test_training_stops_when_validation_stops_falling(params: Params) -> None:
    wild = changed(
        params,
        train__epochs=20,
        train__evaluations=40,
        train__learning_rate=0.05,
        train__patience=2,
        train__select_by="loss",
    )
    classifier, history = train(wild)
    looks, scaled = looks_of(history)
    assert len(looks) < 40
    assert looks.index(min(looks)) == len(looks) - 3
    assert kept_loss(classifier) == pytest.approx(scaled[looks.index(min(looks))], rel=1e-4)


@pytest.mark.usefixtures("project")
def test_the_logged_loss_is_the_mean_cross_entropy_in_nats(params: Params) -> None:
    rows = splits()[0]
    still = changed(
        params,
        train__epochs=1,
        train__batch_size=len(rows.ids),
        train__evaluations=1,
        lora__lora_dropout=0.0,
    )
    expected = loss_on(start(still), rows)
    history = train(still)[1]
    assert history[0]["loss"] == pytest.approx(expected, rel=1e-4)
    assert history[0]["step"] == 1


@pytest.mark.parametrize(
    ("schedule", "last"), [("linear", 1 / 14), ("cosine", 0.0125), ("constant", 1.0)]
)
@pytest.mark.usefixtures("project")
def test_the_rate_climbs_and_falls_along_the_schedule(
    params: Params, schedule: str, last: float
) -> None:
    wanted = changed(
        params, train__schedule=schedule, train__warmup_fraction=0.125, train__patience=0
    )
    made = ClassifierTrainer(start(wanted), splits(), wanted, set_up(COMPUTE))
    made.create_optimizer_and_scheduler(16)
    optimizer, scheduler = made.optimizer, made.lr_scheduler
    assert optimizer
    assert scheduler
    rates = []
    for _ in range(16):
        rates.append(optimizer.param_groups[0]["lr"] / 0.01)
        optimizer.step()
        scheduler.step()
    assert rates[:3] == pytest.approx([0, 0.5, 1])
    assert rates[-1] == pytest.approx(last, abs=1e-3)


@pytest.mark.usefixtures("project")
def test_few_validation_rows_leave_the_last_average_and_never_stop_a_training(
    params: Params, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(trainer, "finds_worse", lambda *_: False)  # the last one may be bad
    wild = changed(
        params, train__epochs=6, train__evaluations=12, train__patience=1, train__learning_rate=0.05
    )
    classifier, history = train(wild)
    looks, scaled = looks_of(history)
    assert len(looks) == 12
    assert min(looks) < looks[-1]  # else the test shows nothing
    assert kept_loss(classifier) == pytest.approx(scaled[-1], rel=1e-4)


@pytest.mark.usefixtures("project")
@pytest.mark.parametrize("method", ["lora", "full"])
def test_what_validation_finds_worse_than_the_base_is_not_kept(
    params: Params, method: str, capsys: pytest.CaptureFixture[str]
) -> None:
    worse = changed(
        params,
        train__method=method,
        train__learning_rate=1e-9,
        train__full_learning_rate=1e-9,
    )
    base = load_base(paths.BASE_MODEL, LABELS, params.seed, set_up(COMPUTE), params.model.pooling)
    zeros = {name: torch.zeros_like(each) for name, each in base.head_state().items()}
    load_head(base, paths.HEAD)
    expected = loss_on(base, splits()[1])
    classifier = method_of(worse).attach(base, worse)
    training = trainer.train(
        classifier, splits(), worse, set_up(COMPUTE), Start("classifier", zeros)
    )
    assert training.kept == "base"
    assert loss_on(classifier, splits()[1]) == pytest.approx(expected, rel=1e-6)
    looks, _ = looks_of(training.history)
    assert looks[-1] == pytest.approx(math.log(2), abs=1e-3)  # from zero, and nowhere
    assert "validation finds the base better" in capsys.readouterr().out


def test_of_steps_without_a_mistake_the_surer_one_has_the_lower_scaled_loss() -> None:
    margins = [margin * torch.tensor([1.0, 2, 3, 1] * 5) for margin in (0.2, 2, 8, 20)]
    losses = [
        float(row_losses(torch.stack([each, -each], dim=1) / 2, [0] * 20, scaled=True).mean())
        for each in margins
    ]
    assert all(later < 0.5 * earlier for earlier, later in pairwise(losses))


@pytest.mark.usefixtures("project")
def test_a_first_loss_that_leaves_nothing_to_learn_is_named(
    params: Params, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    once = changed(params, train__epochs=1)
    first = train(once)[1][0]["loss"]
    assert "Fix: train.start: means" not in capsys.readouterr().out
    monkeypatch.setattr(trainer, "LEARNED", first + 1)
    shutil.rmtree(paths.CHECKPOINTS)
    train(once)
    assert f"the training loss is {first:.3f} in the first steps" in capsys.readouterr().out


@pytest.mark.usefixtures("project")
def test_the_contrastive_part_and_the_smoothing_change_what_is_learned(params: Params) -> None:
    once = changed(params, train__epochs=1)
    plain = state(train(once)[0])
    for change in ({"train__contrastive": 1.0}, {"train__label_smoothing": 0.2}):
        other = state(train(changed(once, **change))[0])
        assert any(not torch.equal(plain[name], other[name]) for name in plain)


@pytest.mark.usefixtures("project")
def test_balanced_classes_weigh_the_same_in_loss_and_choice(params: Params) -> None:
    rows, validation = splits()
    few = [row for row in range(len(rows.ids)) if rows.targets[row] == 0 or row % 4 == 0]
    uneven = Split(
        [rows.ids[row] for row in few],
        [rows.texts[row] for row in few],
        [rows.targets[row] for row in few],
    )
    counts = [uneven.targets.count(number) for number in (0, 1)]
    whole = {"train__epochs": 1, "train__batch_size": len(few), "train__evaluations": 1}
    still = changed(params, **whole, train__class_weight="balanced", lora__lora_dropout=0.0)
    classifier = start(still)
    logits = predict_logits(classifier, uneven.texts, 32, set_up(COMPUTE), "x")
    losses = cross_entropy(logits, torch.tensor(uneven.targets), reduction="none")
    by_class = [losses[torch.tensor(uneven.targets) == number].mean() for number in (0, 1)]
    made = ClassifierTrainer(classifier, (uneven, validation), still, set_up(COMPUTE))
    assert made.plan.weights == tuple(len(few) / 2 / count for count in counts)
    made.train()
    first = made.state.log_history[0]
    assert first["loss"] == pytest.approx(float(sum(by_class)) / 2, rel=1e-4)
    after = made.validation_logits
    weights = torch.tensor(made.plan.weights)[torch.tensor(validation.targets)]
    losses = cross_entropy(after, torch.tensor(validation.targets), reduction="none")
    looked = next(e["eval_loss"] for e in made.state.log_history if "eval_loss" in e)
    assert looked == pytest.approx(float((weights * losses).mean()), rel=1e-4)


class _KilledError(Exception):
    pass


@pytest.mark.usefixtures("project")
@pytest.mark.parametrize("steps", [9, 17])
def test_a_training_that_continues_has_the_same_curve_with_its_last_steps(
    params: Params, monkeypatch: pytest.MonkeyPatch, steps: int
) -> None:
    """The interval of 7 steps ends between two logs, which are 5 steps apart; 24 is no multiple."""
    monkeypatch.setattr(trainer, "LOG_EVERY", 5)
    short = changed(params, train__epochs=3, train__evaluations=4, train__patience=0)
    classifier, whole = train(short)
    logged = [entry["step"] for entry in whole if "loss" in entry]
    assert len(logged) > 6
    assert logged[-1] == max(entry["step"] for entry in whole if "eval_loss" in entry)
    shutil.rmtree(paths.CHECKPOINTS)
    real, done = ClassifierTrainer.training_step, []

    def step(self: ClassifierTrainer, *given: Any) -> torch.Tensor:
        done.append(1)
        if len(done) > steps:
            raise _KilledError
        return real(self, *given)

    with monkeypatch.context() as patched:
        patched.setattr(ClassifierTrainer, "training_step", step)
        with pytest.raises(_KilledError):
            train(short)
    again, resumed = train(short)
    assert state(again).keys() == state(classifier).keys()
    assert all(torch.equal(tensor, state(again)[n]) for n, tensor in state(classifier).items())
    curves = []
    for history in (whole, resumed):
        write_training_curves(history, paths.TRAINING_CURVES)
        curves.append([path.read_bytes() for path in sorted(paths.TRAINING_CURVES.iterdir())])
    assert curves[0] == curves[1]
