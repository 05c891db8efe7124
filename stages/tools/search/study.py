"""The study: what its trials belong to, and what a killed worker leaves behind.

Optuna keeps the trials. A trial that runs has a heartbeat, the time at which its worker was last
alive; one without is failed and put back, in any storage (Optuna's own heartbeat knows databases
and `Study.optimize` alone).
"""

from __future__ import annotations

import hashlib
import json
import os
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

import optuna
import psutil
from optuna.storages import BaseStorage
from optuna.study import Study
from optuna.trial import FrozenTrial, TrialState

from stages.core import paths
from stages.core.artefacts import require, sha256_of
from stages.core.errors import DataError, printable
from stages.core.params import Params
from stages.core.pipeline import code_of
from stages.model.saved import base_identity
from stages.tools.search.space import Entry
from stages.tools.search.storage import patiently

BEAT = 20.0  # seconds between two heartbeats
DEAD = 300.0  # seconds without one, on another machine, after which a worker counts as dead
RETRIES = 3  # times that a trial whose worker died is run again
LIVE = (TrialState.WAITING, TrialState.RUNNING)
DONE = (TrialState.COMPLETE, TrialState.PRUNED)


def inputs_of(params: Params, space: tuple[Entry, ...]) -> dict[str, str]:
    """Return what a study belongs to, each under a name for people: data, base, code, settings."""
    rows = [require(path) for path in (paths.TRAIN, paths.VALIDATION, paths.LABELS)]
    code = {**code_of("evaluate_base"), **code_of("train_lora")}
    settings = params.model_dump(exclude={"compute", "tfidf", "search", "data"})
    settings["max_length"] = params.data.max_length
    return {
        "data": _digest([sha256_of(path) for path in rows]),
        "base model": _digest(base_identity(paths.BASE_MODEL)),
        "code": _digest({name: sha256_of(path) for name, path in code.items()}),
        "settings": _digest(settings),
        "space": _digest([(entry.path, entry.words()) for entry in space]),
    }


def _digest(content: Any) -> str:
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:16]


def open_study(storage: BaseStorage, name: str | None, inputs: dict[str, str]) -> Study:
    """Return the study of these inputs; it is made if there is none.

    Args:
        storage: where it is.
        name: its name; by default it follows from the inputs.
        inputs: see `inputs_of`.

    Raises:
        DataError: if a study of that name has other inputs.
    """
    name = name or f"search-{_digest(inputs)[:8]}"
    study = patiently(
        lambda: optuna.create_study(storage=storage, study_name=name, load_if_exists=True)
    )
    known = study.user_attrs.get("inputs")
    if known is None:
        patiently(lambda: study.set_user_attr("inputs", inputs))
    elif known != inputs:  # guard: inputs of a study
        other = ", ".join(key for key in inputs if known.get(key) != inputs[key])
        raise DataError(
            f"study {printable(name)}: belongs to other {other}",
            "leave out --study, or give a name of its own to the new one",
        )
    return study


def trials_of(study: Study, *states: TrialState) -> list[FrozenTrial]:
    """Return the study's trials in these states, in the order of their numbers."""
    return patiently(lambda: study.get_trials(deepcopy=False, states=states or None))


def final_of(attributes: dict[str, Any]) -> tuple[str, int] | None:
    """Return changes and seed of a trial of the finals, None for another one's attributes."""
    if "changes" not in attributes:
        return None
    return json.dumps(attributes["changes"], sort_keys=True), attributes["seed"]


def counted(study: Study) -> list[FrozenTrial]:
    """Return the trials that count: done, running, or waiting to run."""
    return trials_of(study, *DONE, *LIVE)


@contextmanager
def alive(study: Study, trial_id: int) -> Iterator[None]:
    """Let the trial's heartbeat go on while the block runs."""
    storage, stop = study._storage, threading.Event()

    def beat() -> None:
        while True:
            with suppress(Exception):  # the next one may get through
                storage.set_trial_user_attr(trial_id, "alive", time.time())
            if stop.wait(BEAT):
                return

    owner = {"host": socket.gethostname(), "pid": os.getpid(), "started": _started(os.getpid())}
    patiently(lambda: storage.set_trial_user_attr(trial_id, "worker", owner))
    thread = threading.Thread(target=beat, daemon=True)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()


def put_back_dead(study: Study) -> int:
    """Fail each running trial whose worker is gone, put it back, and return how many."""
    gone = [trial for trial in trials_of(study, TrialState.RUNNING) if _is_dead(trial)]
    return sum(put_back(study, trial) for trial in gone)


def put_back(study: Study, trial: FrozenTrial, reason: str | None = None) -> bool:
    """Fail a running trial and put it back into the queue; return whether it was this call.

    Of several processes that try to, one succeeds.

    Args:
        study: the trial's.
        trial: as it is stored.
        reason: why it stopped; None means that its worker died. That is tried RETRIES times.
    """
    storage = study._storage
    retries = trial.user_attrs.get("retries", 0) + (reason is None)
    reason = reason or "its worker died"
    try:
        storage.set_trial_user_attr(trial._trial_id, "reason", reason)
        storage.set_trial_state_values(trial._trial_id, TrialState.FAIL)
    except optuna.exceptions.UpdateFinishedTrialError:
        return False
    if retries <= RETRIES:
        kept = {k: v for k, v in trial.user_attrs.items() if k in ("changes", "seed")}
        fixed = trial.params or trial.system_attrs.get("fixed_params", {})
        study.enqueue_trial(fixed, user_attrs={**kept, "retries": retries})
    return True


def _is_dead(trial: FrozenTrial) -> bool:
    """Return whether the worker of a running trial is gone."""
    owner = trial.user_attrs.get("worker")
    started = trial.datetime_start.timestamp() if trial.datetime_start else 0.0
    if owner is None:  # killed between taking the trial and saying who it is
        return time.time() - started > 2 * BEAT
    if owner["host"] == socket.gethostname():
        return bool(_started(owner["pid"]) != owner["started"])
    return bool(time.time() - trial.user_attrs.get("alive", started) > DEAD)


def _started(pid: int) -> float | None:
    try:
        return psutil.Process(pid).create_time()
    except psutil.Error:
        return None
