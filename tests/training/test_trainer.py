"""The training loop: it learns, moves only what it may, and keeps what validation likes best."""

from __future__ import annotations

from contextlib import chdir
from pathlib import Path

import pytest
import torch
from torch.nn.functional import cross_entropy

from stages.core import paths
from stages.core.errors import NumericsError
from stages.core.params import Params
from stages.model.base import load_base
from stages.model.classifier import Classifier
from stages.model.device import set_up
from stages.model.head import load_head
from stages.model.lora import attach_lora
from stages.rows.prepared import Split, read_split
from stages.scoring.logits import predict_logits
from stages.training import trainer
from stages.training.trainer import make_trainer
from tests.support.tiny import COMPUTE, NAMES, changed

LABELS = list(NAMES[:2])


def start(params: Params) -> Classifier:
    """Return what train_lora starts from, in the current project."""
    base = load_base(paths.BASE_MODEL, LABELS, params.seed, set_up(COMPUTE), params.model.pooling)
    load_head(base, paths.HEAD)
    return attach_lora(base, params.lora)


def splits() -> tuple[Split, Split]:
    return read_split(paths.TRAIN, LABELS), read_split(paths.VALIDATION, LABELS)


def loss_on(classifier: Classifier, split: Split) -> float:
    logits = predict_logits(classifier, split.texts, 32, set_up(COMPUTE), "loss")
    return float(cross_entropy(logits, torch.tensor(split.targets)))


def state(classifier: Classifier) -> dict[str, torch.Tensor]:
    return {name: p.detach().clone() for name, p in classifier.model.named_parameters()}


def train(params: Params) -> tuple[Classifier, list[dict[str, float]]]:
    classifier = start(params)
    return classifier, trainer.train(classifier, splits(), params, set_up(COMPUTE))


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


@pytest.mark.usefixtures("project")
@pytest.mark.parametrize(("decay", "rate"), [(0.0, 0.05), (0.5, 0.08)])
def test_the_best_weights_by_validation_are_kept(params: Params, decay: float, rate: float) -> None:
    wild = changed(
        params,
        train__epochs=3,
        train__ema_decay=decay,
        train__learning_rate=rate,
        train__schedule="constant",
        train__patience=0,
        train__select_by="loss",
    )
    classifier, history = train(wild)
    looks = [entry["eval_loss"] for entry in history if "eval_loss" in entry]
    assert len(looks) == 6
    assert min(looks) < looks[-1]  # else the test shows nothing
    assert loss_on(classifier, splits()[1]) == pytest.approx(min(looks), rel=1e-6)


@pytest.mark.usefixtures("project")
def test_training_stops_when_validation_stops_falling(params: Params) -> None:
    wild = changed(
        params,
        train__epochs=20,
        train__learning_rate=0.05,
        train__patience=2,
        train__select_by="loss",
    )
    classifier, history = train(wild)
    looks = [entry["eval_loss"] for entry in history if "eval_loss" in entry]
    assert len(looks) < 40
    assert looks.index(min(looks)) == len(looks) - 3
    assert loss_on(classifier, splits()[1]) == pytest.approx(min(looks), rel=1e-6)


@pytest.mark.usefixtures("project")
def test_no_epoch_changes_nothing(params: Params) -> None:
    still = changed(params, train__epochs=0)
    before = state(start(still))
    classifier, history = train(still)
    assert history == []
    for name, tensor in state(classifier).items():
        assert torch.equal(tensor, before[name])


@pytest.mark.usefixtures("project")
def test_the_logged_loss_is_the_mean_cross_entropy_in_nats(params: Params) -> None:
    rows = splits()[0]
    still = changed(
        params,
        train__epochs=1,
        train__batch_size=len(rows.ids),
        train__evaluations_per_epoch=1,
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
    made = make_trainer(start(wanted), splits(), wanted, set_up(COMPUTE))
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
def test_a_loss_that_is_not_finite_names_step_rate_and_rows(params: Params) -> None:
    wanted = changed(
        params, train__batch_size=4, train__evaluations_per_epoch=1, train__warmup_fraction=0.0
    )
    classifier = start(wanted)
    rows = splits()[0]
    sick = rows.texts[7].split()[0]
    number = classifier.tokenizer.convert_tokens_to_ids(sick)
    with torch.no_grad():
        classifier.model.get_input_embeddings().weight[number] = float("nan")
    with pytest.raises(NumericsError) as caught:
        trainer.train(classifier, splits(), wanted, set_up(COMPUTE))
    message = str(caught.value)
    assert caught.value.exit_code == 6
    assert "training: the loss is not finite at step " in message
    step = int(message.split("at step ")[1].split(",")[0])
    rate = float(message.split("learning rate ")[1].split(",")[0])
    assert rate == pytest.approx(0.01 * (1 - (step - 1) / 30), rel=0.01)
    named = message.split("rows ")[1].split(", ...")[0].split(", ")
    texts = dict(zip(rows.ids, rows.texts, strict=True))
    assert len(named) == 4
    assert any(sick in texts[row].split() for row in named)
