"""The study: dead workers, heartbeats, and trials of other inputs."""

from __future__ import annotations

import socket
import threading
import time
from pathlib import Path
from typing import Any

import optuna
import pytest
from optuna.study import Study
from optuna.trial import TrialState

from stages.core.errors import DataError
from stages.tools.search import study as module
from stages.tools.search.space import check_space
from stages.tools.search.storage import open_storage
from stages.tools.search.study import (
    RETRIES,
    alive,
    inputs_of,
    open_study,
    put_back,
    put_back_dead,
    trials_of,
)
from tests.support.tiny import changed

JOURNAL = Path("journal.log")
INPUTS = {"data": "a", "code": "b", "space": "c"}


@pytest.fixture
def study(tmp_cwd: Path) -> Study:  # noqa: ARG001  # the folder that the journal is in
    return open_study(open_storage(str(JOURNAL)), None, INPUTS)


def again() -> Study:
    """Return the study as another process sees it."""
    return open_study(open_storage(str(JOURNAL)), None, INPUTS)


def dead_trial(study: Study, retries: int = 0) -> Any:
    trial = study.ask({"lora.r": optuna.distributions.IntDistribution(4, 8)})
    trial.set_user_attr("worker", {"host": socket.gethostname(), "pid": 2**22, "started": 0})
    trial.set_user_attr("retries", retries)
    return trial


def test_a_trial_of_a_dead_worker_is_failed_and_put_back_once(study: Study) -> None:
    first = dead_trial(study)
    assert put_back_dead(again()) == 1
    assert put_back_dead(again()) == 0
    failed, waiting = again().trials
    assert (failed.state, waiting.state) == (TrialState.FAIL, TrialState.WAITING)
    assert waiting.system_attrs["fixed_params"] == first.params
    assert failed.user_attrs["reason"] == "its worker died"


def test_a_trial_that_kills_its_worker_again_and_again_is_given_up(study: Study) -> None:
    dead_trial(study, RETRIES)
    put_back_dead(study)
    assert [trial.state for trial in study.trials] == [TrialState.FAIL]


def test_a_trial_that_a_user_stopped_may_be_stopped_as_often_as_it_likes(study: Study) -> None:
    trial = dead_trial(study, RETRIES)
    assert put_back(study, study._storage.get_trial(trial._trial_id), "stopped")
    assert [t.state for t in study.trials] == [TrialState.FAIL, TrialState.WAITING]
    assert study.trials[1].user_attrs["retries"] == RETRIES


def test_a_trial_that_is_alive_stays(study: Study, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "BEAT", 0.01)
    trial = study.ask()
    with alive(study, trial._trial_id):
        assert put_back_dead(again()) == 0
        first = _beat_of(trial.number)
        deadline = time.monotonic() + 20
        while _beat_of(trial.number) == first and time.monotonic() < deadline:
            time.sleep(0.01)
        assert _beat_of(trial.number) > first
    assert not [thread for thread in threading.enumerate() if "beat" in thread.name]


def _beat_of(number: int) -> float:
    return float(again().trials[number].user_attrs.get("alive", 0))


@pytest.mark.parametrize(("silent", "dead"), [(module.DEAD - 60, 0), (module.DEAD + 60, 1)])
def test_a_worker_on_another_machine_is_dead_without_a_heartbeat(
    study: Study, silent: float, dead: int
) -> None:
    trial = study.ask()
    trial.set_user_attr("worker", {"host": "elsewhere", "pid": 1, "started": 0})
    trial.set_user_attr("alive", time.time() - silent)
    assert put_back_dead(study) == dead


def test_two_that_put_the_same_trial_back_make_one_new_trial(study: Study) -> None:
    trial = dead_trial(study)
    frozen = study._storage.get_trial(trial._trial_id)
    assert [put_back(again(), frozen) for _ in range(3)] == [True, False, False]
    assert len(trials_of(study, TrialState.WAITING)) == 1


@pytest.mark.guard("inputs of a study")
def test_a_study_of_other_inputs_is_refused_by_name_and_else_never_met(study: Study) -> None:
    storage = open_storage(str(JOURNAL))
    other = INPUTS | {"data": "z"}
    with pytest.raises(DataError, match=r"belongs to other data\. Fix: leave out --study"):
        open_study(storage, study.study_name, other)
    assert open_study(storage, None, other).study_name != study.study_name
    assert open_study(storage, study.study_name, INPUTS).study_name == study.study_name


@pytest.mark.usefixtures("project")
def test_inputs_change_with_what_a_trial_depends_on(params: Any) -> None:
    space = check_space({"lora.r": {"low": 2, "high": 8}}, params, "search")
    known = inputs_of(params, space)
    assert inputs_of(changed(params, compute__threads=2, tfidf__c=[9]), space) == known
    other = check_space({"lora.r": {"low": 2, "high": 9}}, params, "search")
    assert _differing(known, inputs_of(params, other)) == ["space"]
    assert _differing(known, inputs_of(changed(params, train__epochs=9), space)) == ["settings"]
    table = Path("data/train.parquet")
    table.write_bytes(table.read_bytes() + b" ")
    assert _differing(known, inputs_of(params, space)) == ["data"]


def _differing(known: dict[str, str], other: dict[str, str]) -> list[str]:
    return [name for name in known if known[name] != other[name]]
