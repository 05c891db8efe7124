"""The study: where trials are stored, to what they belong, and what a killed worker leaves behind.

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
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, BinaryIO, TypeVar

import optuna
import psutil
from filelock import FileLock
from optuna.storages import BaseStorage, JournalStorage, RDBStorage
from optuna.storages.journal import JournalFileBackend
from optuna.storages.journal._file import BaseJournalFileLock
from optuna.study import Study
from optuna.trial import FrozenTrial, TrialState
from sqlalchemy.engine import make_url
from sqlalchemy.exc import (
    ArgumentError,
    IntegrityError,
    NoSuchModuleError,
    ProgrammingError,
    SQLAlchemyError,
)

from stages.core import paths
from stages.core.artefacts import require, sha256_of
from stages.core.errors import DataError, HostError, ParamsError, printable
from stages.core.params import Params
from stages.core.pipeline import code_of
from stages.model.saved import base_identity
from stages.tools.search.space import Entry

BEAT = 20.0  # seconds between two heartbeats
DEAD = 300.0  # seconds without one, on another machine, after which a worker counts as dead
PATIENCE = 300.0  # seconds for which a storage that does not answer is tried again
RETRIES = 3  # times that a trial whose worker died is run again
LIVE = (TrialState.WAITING, TrialState.RUNNING)
DONE = (TrialState.COMPLETE, TrialState.PRUNED)
T = TypeVar("T")

optuna.logging.set_verbosity(optuna.logging.ERROR)
warnings.filterwarnings("ignore", category=optuna.exceptions.ExperimentalWarning)


class Journal(JournalFileBackend):
    """Optuna's journal, for one that a killed process may have left with half a last line.

    Nothing may follow such a line, so the next writer cuts it off. The lock is the kernel's: it is
    free the moment its holder is gone.
    """

    def __init__(self, path: Path) -> None:
        super().__init__(str(path), _KernelLock(path))
        self.path = path

    def append_logs(self, logs: list[dict[str, Any]]) -> None:
        """Write complete lines, after a complete line."""
        lines = "".join(json.dumps(log, separators=(",", ":")) + "\n" for log in logs)
        self._lock.acquire()
        try:
            with self.path.open("r+b") as file:
                _cut_half_a_line(file)  # guard: half a line of the journal
                file.seek(0, os.SEEK_END)
                file.write(lines.encode())
                file.flush()
                os.fsync(file.fileno())
        finally:
            self._lock.release()


def _cut_half_a_line(file: BinaryIO) -> None:
    """Cut off what follows the last end of a line."""
    if file.seek(0, os.SEEK_END):
        file.seek(-1, os.SEEK_END)
        if file.read(1) != b"\n":
            file.seek(0)
            file.truncate(file.read().rfind(b"\n") + 1)


class _KernelLock(BaseJournalFileLock):
    def __init__(self, path: Path) -> None:
        self.lock = FileLock(f"{path}.lock")

    def acquire(self) -> bool:
        self.lock.acquire()
        return True

    def release(self) -> None:
        self.lock.release()


def open_storage(url: str | None) -> BaseStorage:
    """Return the storage of an URL, of a journal's path, or by default of the project's journal.

    Raises:
        ParamsError: if it is no storage that Optuna knows.
        HostError: if the database does not answer, or a journal is damaged.
    """
    if url is None or "://" not in url:
        path = Path(url) if url else paths.STUDIES / "journal.log"
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("ab"):  # a journal that cannot be written is reported now
            pass
        try:
            return JournalStorage(Journal(path))
        except (ValueError, KeyError, TypeError) as error:
            what = f"{path}: not a journal of Optuna: {printable(error)}"
            raise HostError(what, "move it away, or name another: --storage FILE") from error
    return _open_database(url)


def _open_database(url: str, tries: int = 5) -> RDBStorage:
    shown = printable(_without_password(url), 200)
    try:
        arguments = {"connect_timeout": 10} if url.startswith(("postgresql", "mysql")) else {}
        return RDBStorage(url, engine_kwargs={"pool_pre_ping": True, "connect_args": arguments})
    except (IntegrityError, ProgrammingError) as error:  # two machines make its tables at once
        if not tries:
            raise no_answer(shown, error) from error
        time.sleep(1)
        return _open_database(url, tries - 1)
    except (ArgumentError, NoSuchModuleError, ValueError) as error:
        raise ParamsError(
            f"--storage: {shown}: {printable(error, 200)}",
            "give a URL as SQLAlchemy takes it, for example postgresql://user@host/name",
        ) from error
    except ImportError as error:
        what = f"--storage: {shown}: its driver is not installed"
        raise HostError(what, "run: pip install 'bert-lora-dvc[postgresql]'") from error
    except (SQLAlchemyError, optuna.exceptions.StorageInternalError) as error:
        raise no_answer(shown, error) from error


def no_answer(shown: str, error: Exception) -> HostError:
    """Return the error for a storage that cannot be reached; finished trials are kept in it."""
    reason = printable(str(error.__cause__ or error).partition("\n")[0], 160)
    return HostError(
        f"--storage: {shown} does not answer: {reason}",
        "start it or correct the URL, and give the same command again: it continues",
    )


def _without_password(url: str) -> str:
    try:
        return make_url(url).render_as_string(hide_password=True)
    except (ArgumentError, ValueError):
        return url


def patiently(work: Callable[[], T]) -> T:
    """Return what `work` returns; while the storage does not answer it is tried again.

    Raises:
        HostError: if it does not answer for PATIENCE seconds.
    """
    start, wait = time.monotonic(), 1.0
    while True:
        try:
            return work()
        except (SQLAlchemyError, optuna.exceptions.StorageInternalError) as error:
            if time.monotonic() - start > PATIENCE:
                raise no_answer("the storage", error) from error
            time.sleep(wait)
            wait = min(2 * wait, 30)


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
