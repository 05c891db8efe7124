"""This project as a contender: it trains what stage train_lora trains."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from stages.core import paths
from stages.model.saved import base_identity
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
