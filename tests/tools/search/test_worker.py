"""Workers on one study: each trial is one worker's, and there are as many as were wanted."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from optuna.study import Study
from optuna.trial import TrialState

from stages.core.errors import NumericsError
from stages.core.params import Params
from stages.model.device import resolve
from stages.running.run import Terminated
from stages.tools.search.space import Entry, check_space
from stages.tools.search.storage import open_storage
from stages.tools.search.study import open_study, trials_of
from stages.tools.search.trial import Outcome
from stages.tools.search.worker import run, take
from tests.support.tiny import COMPUTE, shipped

ENTRIES = {"lora.r": {"low": 2, "high": 64}, "train.schedule": {"choices": ["linear", "cosine"]}}


@pytest.fixture
def space() -> tuple[Entry, ...]:
    return check_space(ENTRIES, shipped(), "search")


@pytest.fixture
def study(tmp_cwd: Path) -> Study:
    return opened(tmp_cwd)


def opened(folder: Path) -> Study:
    return open_study(open_storage(str(folder / "journal.log")), "study", {"data": "a"})


class Fake:
    """Trainings whose loss follows from the rank, or that end as they are told."""

    device = resolve(COMPUTE)

    def __init__(self, end: BaseException | None = None, pruned: bool = False) -> None:
        self.end, self.pruned = end, pruned
        self.trained: list[Params] = []

    def run(self, params: Params, report: Any) -> Outcome:
        """Return an outcome of the rank."""
        self.trained.append(params)
        report(1 / params.lora.r, 500)
        if self.end:
            raise self.end
        losses, right = torch.tensor([0.25, 0.75]), torch.tensor([True, False])
        return Outcome(1 / params.lora.r, 0.5, losses, right, 1.0, 2.0, self.pruned)


def work(study: Study, space: tuple[Entry, ...], wanted: int, trials: Any) -> None:
    while trial := take(study, space, wanted, 42):
        run(study, trial, trials, shipped(), space)


def test_a_worker_runs_as_many_as_were_wanted_and_stores_what_came_out(
    study: Study, space: tuple[Entry, ...]
) -> None:
    trials = Fake()
    work(study, space, 5, trials)
    assert [trial.state for trial in study.trials] == [TrialState.COMPLETE] * 5
    for trial, params in zip(study.trials, trials.trained, strict=True):
        assert trial.params["lora.r"] == params.lora.r
        assert trial.value == 1 / params.lora.r
        assert trial.user_attrs["precision"] == "fp32"
        assert trial.intermediate_values == {500: trial.value}
        assert "losses" not in trial.user_attrs
    work(study, space, 5, trials)
    assert len(study.trials) == 5


def test_two_that_ask_for_the_last_one_make_no_trial_too_many(
    study: Study, space: tuple[Entry, ...], tmp_path: Path
) -> None:
    other = opened(tmp_path)
    first = take(study, space, 1, 42)
    assert first is not None
    late = other.ask({entry.path: entry.distribution() for entry in space})
    assert late.number == 1  # it asked before it saw the first
    study.tell(first, 0.5)
    assert take(study, space, 1, 42) is None
    counted = trials_of(study, TrialState.COMPLETE, TrialState.RUNNING)
    assert len(counted) == 2
    other.tell(late, 0.4)
    assert take(other, space, 2, 42) is None


def test_a_surplus_trial_is_discarded(study: Study, space: tuple[Entry, ...]) -> None:
    study.ask()
    study.enqueue_trial({"lora.r": 8})
    assert take(study, space, 1, 42) is None
    assert study.trials[1].state is TrialState.FAIL
    assert study.trials[1].user_attrs["reason"] == "not needed"


def test_a_final_that_two_machines_queued_is_run_once(study: Study) -> None:
    for changes, seed in (({}, 43), ({"lora.r": 4}, 43), ({}, 43), ({}, 44), ({"lora.r": 4}, 43)):
        study.enqueue_trial({}, {"changes": changes, "seed": seed})
    trials = Fake()
    work(study, (), 0, trials)
    assert [(params.lora.r, params.seed) for params in trials.trained] == [
        (shipped().lora.r, 43),
        (4, 43),
        (shipped().lora.r, 44),
    ]
    assert [trial.user_attrs.get("reason") for trial in study.trials].count("not needed") >= 2


def test_a_stopped_search_goes_on_to_the_same_suggestions(
    space: tuple[Entry, ...], tmp_path: Path
) -> None:
    params = []
    for stops in ((12,), (3, 7, 12)):
        folder = tmp_path / str(len(stops))
        folder.mkdir()
        for stop in stops:
            work(opened(folder), space, stop, Fake())
        params.append([trial.params for trial in opened(folder).trials])
    assert params[0] == params[1]
    assert len({str(each) for each in params[0]}) > 6


def test_a_trial_that_is_not_finite_is_failed_with_the_reason(
    study: Study, space: tuple[Entry, ...]
) -> None:
    trial = take(study, space, 1, 42)
    assert trial is not None
    run(study, trial, Fake(NumericsError("the loss is not finite", "x")), shipped(), space)  # type: ignore[arg-type]  # a fake
    assert study.trials[0].state is TrialState.FAIL
    assert study.trials[0].user_attrs["reason"] == "the loss is not finite"


@pytest.mark.parametrize("end", [KeyboardInterrupt(), Terminated()])
def test_a_trial_that_is_stopped_is_put_back(
    study: Study, space: tuple[Entry, ...], end: BaseException
) -> None:
    trial = take(study, space, 3, 42)
    assert trial is not None
    with pytest.raises(type(end)):
        run(study, trial, Fake(end), shipped(), space)  # type: ignore[arg-type]  # a fake
    again = Fake()
    work(study, space, 3, again)
    states = [trial.state for trial in study.trials]
    assert states == [TrialState.FAIL, *[TrialState.COMPLETE] * 3]
    assert study.trials[0].params == study.trials[1].params


def test_a_trial_that_is_hopeless_counts(study: Study, space: tuple[Entry, ...]) -> None:
    work(study, space, 2, Fake(pruned=True))
    assert [trial.state for trial in study.trials] == [TrialState.PRUNED] * 2
    assert study.trials[0].user_attrs["loss"] == 1 / study.trials[0].params["lora.r"]


def test_a_final_runs_what_was_queued_with_its_seed_and_nothing_else(study: Study) -> None:
    study.enqueue_trial({}, {"changes": {"lora.r": 4}, "seed": 43})
    trials = Fake()
    work(study, (), 0, trials)
    (trained,) = trials.trained
    assert (trained.lora.r, trained.seed) == (4, 43)
    (trial,) = study.trials
    assert trial.user_attrs["losses"] == [0.25, 0.75]
    assert trial.user_attrs["right"] == "10"
