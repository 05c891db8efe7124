"""A trial is the pipeline's own training, scored on validation alone."""

from __future__ import annotations

import shutil
from typing import Any

import pandas as pd
import pytest
import torch

from stages.core import paths
from stages.core.params import Params
from stages.model.device import set_up
from stages.tools.search.trial import Trials
from stages.train_lora import train_lora
from tests.support.tiny import COMPUTE, changed


@pytest.mark.usefixtures("project")
@pytest.mark.parametrize("method", ["lora", "full"])
@pytest.mark.parametrize(("ema", "select"), [(0.0, "loss"), (0.9, "scaled_loss")])
def test_a_trial_reaches_what_the_stage_reaches(
    params: Params, method: str, ema: float, select: str
) -> None:
    params = changed(params, train__method=method, train__ema_decay=ema, train__select_by=select)
    train_lora(params)
    curve = pd.read_csv(paths.TRAINING_CURVES / "validation.csv")
    best = curve.sort_values(select).iloc[0]
    paths.TEST.unlink()  # a trial has no use for it
    shutil.rmtree(paths.HEAD)
    reported: list[tuple[float, int]] = []

    def report(loss: float, step: int) -> bool:
        reported.append((loss, step))
        return False

    trials = Trials(set_up(COMPUTE))
    for _ in range(2):  # what the first one cached serves the second
        reported.clear()
        outcome = trials.run(params, report)
        assert outcome.loss == pytest.approx(best[select], rel=1e-5)
        assert outcome.accuracy == pytest.approx(best["accuracy"], rel=1e-5)
        assert outcome.epochs == pytest.approx(best["epoch"], abs=1e-3)
        assert [loss for loss, _ in reported] == pytest.approx(list(curve[select]), rel=1e-5)
        assert [step for _, step in reported] == [500, 1000, 1500, 2000]
    assert float(outcome.losses.mean()) == pytest.approx(outcome.loss, rel=1e-5)
    assert float(outcome.right.double().mean()) == outcome.accuracy
    assert not outcome.pruned
    assert not any(paths.CHECKPOINTS.glob("checkpoint-*"))


@pytest.mark.usefixtures("project")
def test_a_trial_ends_where_the_report_says_so(params: Params) -> None:
    steps: list[int] = []

    def report(_: float, step: int) -> bool:
        steps.append(step)
        return step >= 1000

    assert Trials(set_up(COMPUTE)).run(params, report).pruned
    assert steps == [500, 1000]


@pytest.mark.usefixtures("project")
def test_each_pooling_and_penalty_has_its_own_head(params: Params) -> None:
    trials = Trials(set_up(COMPUTE))
    settings: list[dict[str, Any]] = [
        {},
        {"model__pooling": "first"},
        {"head__l2": [0.1]},
        {"seed": 7},
    ]
    heads = [trials._head_of(changed(params, **values)) for values in settings]
    for place, head in enumerate(heads):
        for other in heads[:place]:
            assert not torch.equal(head["classifier.weight"], other["classifier.weight"])
    assert len(trials._features) == 2
