"""This project as a contender: it trains what stage train_lora trains."""

from __future__ import annotations

import time
from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch

from stages.core import paths
from stages.model.saved import base_identity
from stages.tools.benchmark import contenders
from stages.tools.benchmark.contenders import CONTENDERS, make_ours, time_one
from stages.tools.benchmark.setting import Setting, steps_of
from stages.tools.benchmark.table import NAMES
from tests.support.tiny import changed


def test_every_contender_but_the_one_of_another_environment_has_a_maker() -> None:
    assert set(CONTENDERS) == set(NAMES) - {"adapters"}


def test_ours_trains_with_the_seed_and_the_attention_dropout_of_the_params(
    setting: Setting,
) -> None:
    params = changed(setting.params, train__attention_dropout=0.25)
    trainer, _ = make_ours(replace(setting, params=params), 1, 7)
    assert trainer.args.seed == 7
    assert trainer.model.config.attention_probs_dropout_prob == 0.25


def test_ours_reaches_the_accuracy_of_its_own_logits(setting: Setting) -> None:
    before = base_identity(paths.BASE_MODEL)
    measured = time_one("ours", setting, 0, setting.params.seed)
    assert measured["training"] > 0
    assert measured["scoring"] > 0
    assert measured["accuracy"] > 0.6  # two classes, a tenth of the labels are wrong
    assert base_identity(paths.BASE_MODEL) == before


@pytest.mark.parametrize(("steps", "expected"), [(2, 5), (0, -1)])
def test_ours_stops_after_the_steps_or_after_all_epochs(
    setting: Setting, steps: int, expected: int
) -> None:
    trainer, score = make_ours(setting, steps, 0)
    assert trainer.args.max_steps == expected
    assert steps_of(setting) == 2 * 8  # epochs of 60 rows, 8 a step
    logits, labels = score()
    assert logits.shape == torch.Size([len(labels), 2])


def test_the_time_to_the_target_leaves_the_scoring_out(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    now = [0.0]
    monkeypatch.setattr(time, "perf_counter", lambda: now[0])
    accuracies = iter([0.5, 0.84, 0.85])

    def score() -> tuple[torch.Tensor, torch.Tensor]:
        now[0] += 100  # seconds that are not training
        right = round(100 * next(accuracies))
        return torch.eye(2)[[0] * right + [1] * (100 - right)], torch.zeros(100, dtype=torch.long)

    until = contenders.Until(score, interval=4)
    until.on_train_begin()
    for step in range(1, 21):
        now[0] += 1
        until.on_step_end(None, SimpleNamespace(global_step=step), None)
    assert until.seconds == 12
