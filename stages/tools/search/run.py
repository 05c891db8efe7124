"""A search from start to end: the trials, the finals, the record; its workers are processes."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from statistics import mean
from typing import Any

from optuna.study import Study
from optuna.trial import TrialState

from stages.core import paths
from stages.core.artefacts import read_object
from stages.core.errors import HostError, UserError, printable
from stages.core.params import Params
from stages.running.environment import threads_of
from stages.scoring.search_records import Row, write_search
from stages.tools.search import conclusion
from stages.tools.search.conclusion import Changes, Finalist
from stages.tools.search.live import NAMES, Board, option_line
from stages.tools.search.space import Entry, value_at, values_of
from stages.tools.search.study import (
    DONE,
    LIVE,
    counted,
    inputs_of,
    open_storage,
    open_study,
    patiently,
    put_back_dead,
    trials_of,
)
from stages.tools.search.worker import Task

POLL = 0.5  # seconds between two looks at the storage
WAIT = 30  # seconds for a worker to end by itself once it was told to
FINALS = 0.4  # share of --minutes that is kept for the finals at most
RESTARTS = 3  # workers that may die before the search gives up


@dataclass(frozen=True)
class Search:
    """What the user wants, checked.

    Attributes:
        params: the settings that the space changes; the search's own seed is theirs.
        entries: range or choices by the param's path, as they were written.
        space: the same, checked.
        trials: how many trials the study shall have.
        at_most: how many of them this call may add; None for all.
        minutes: when to stop; None for no limit.
        workers: processes that train at once.
        storage: see `study.open_storage`.
        study: the study's name, None for one that follows from its inputs.
        top: how many settings of the search are trained again, besides the defaults.
        seeds: how many further seeds each of them gets.
    """

    params: Params
    entries: dict[str, Any]
    space: tuple[Entry, ...]
    trials: int
    at_most: int | None
    minutes: float | None
    workers: int
    storage: str | None
    study: str | None
    top: int
    seeds: int

    @property
    def final_seeds(self) -> list[int]:
        """The seeds of the finals; the search's own seed is none of them."""
        return [(self.params.seed + place) % 2**32 for place in range(1, self.seeds + 1)]


def search(wanted: Search) -> Changes | None:
    """Run what is missing of the search, record it, and return the best settings.

    Returns:
        The changed params, empty if the defaults are best; None if no finals were run.

    Raises:
        UserError: see the modules of this package.
    """
    storage = open_storage(wanted.storage)
    inputs = inputs_of(wanted.params, wanted.space)
    study = open_study(storage, wanted.study, inputs)
    finals = open_study(storage, f"{study.study_name}-finals", inputs)
    stop = None if wanted.minutes is None else time.time() + 60 * wanted.minutes
    ready = len(trials_of(study, *DONE))
    print(f"study {study.study_name}: {ready} trials done before", flush=True)
    if not counted(study):
        _enqueue_defaults(study, wanted)
    if wanted.at_most is not None:
        wanted = replace(wanted, trials=min(wanted.trials, ready + wanted.at_most))
    results: list[Finalist] = []
    try:
        over = partial(_search_is_over, study, wanted, time.time(), stop)
        _run(study, wanted, "search", wanted.trials, over, stop)
        finalists = conclusion.finalists_of(study, wanted.space, wanted.params, wanted.top)
        number = conclusion.enqueue_finals(finals, finalists, wanted.final_seeds)
        over = partial(_is_past, stop)
        _run(finals, wanted, "finals", number, over, stop)
        results = conclusion.results_of(finals, finalists, wanted.final_seeds)
    finally:  # also when it is interrupted: what is done so far is recorded
        with suppress(KeyboardInterrupt):
            best, verdict = _conclude(study, results, wanted)
            write_search(
                [*_rows(study, wanted, "search"), *_rows(finals, wanted, "final")],
                _found(study, results, best, verdict, wanted),
            )
            print(_closing(results, best, verdict), flush=True)
    return best


def _enqueue_defaults(study: Study, wanted: Search) -> None:
    """Let the first trial have the settings of params.yaml, if they are in the space."""
    values = {
        entry.path: entry.suggestion_of(value_at(wanted.params, entry.path))
        for entry in wanted.space
    }
    if None not in values.values():
        patiently(lambda: study.enqueue_trial(values, skip_if_exists=True))


def _search_is_over(study: Study, wanted: Search, start: float, stop: float | None) -> bool:
    """Return whether the time that the trials have is up; the rest of it is for the finals.

    That is what the finals need, but at most FINALS of all: then they have fewer seeds.
    """
    if stop is None:
        return False
    seconds = [t.user_attrs["seconds"] for t in trials_of(study, TrialState.COMPLETE)]
    trainings = (wanted.top + 1) * wanted.seeds
    finals = trainings * mean(seconds) / wanted.workers if seconds else 0.0
    return time.time() + min(finals, FINALS * (stop - start)) > stop


def _is_past(stop: float | None) -> bool:
    return stop is not None and time.time() > stop


def _run(
    study: Study,
    wanted: Search,
    title: str,
    number: int,
    over: Callable[[], bool],
    stop: float | None,
) -> None:
    """Let workers run a study's trials until all are done or the time is over.

    Raises:
        UserError's exit: if a worker ended with one.
        HostError: if workers die again and again.
    """
    put_back_dead(study)
    is_search = title == "search"
    space = wanted.space if is_search else ()
    board = Board(title, number, wanted.workers, space, wanted.params, stop)
    if len(trials_of(study, *DONE)) >= number and not trials_of(study, *LIVE):
        return
    threads = max(1, threads_of(wanted.params.compute) // wanted.workers)
    compute = wanted.params.compute.model_copy(update={"threads": threads})
    task = Task(
        storage=wanted.storage,
        study=study.study_name,
        params=wanted.params.model_copy(update={"compute": compute}).model_dump(),
        space=wanted.entries if is_search else {},
        wanted=number if is_search else 0,
        parent=os.getpid(),
    )
    workers = [Worker(task, place) for place in range(wanted.workers)]
    restarts = 0
    try:
        with board.shown():
            while True:
                trials = trials_of(study)
                board.show(trials)
                ended = [worker for worker in workers if worker.ended]
                for worker in ended:
                    if worker.failed_by_user:
                        raise SystemExit(worker.code)
                    if worker.code and restarts >= RESTARTS:
                        what = f"{len(ended)} workers died, the last one with code {worker.code}"
                        raise HostError(what, f"see {worker.log}")
                    if worker.code:
                        restarts += 1
                        put_back_dead(study)
                        worker.start()
                none_left = all(worker.ended for worker in workers)
                if over() or (none_left and not _undone(study, is_search, number)):
                    board.show(trials_of(study))
                    return
                if none_left:  # a trial was put back after the last worker left
                    workers[0].start()
                time.sleep(POLL)
    finally:
        _stop(workers)


def _undone(study: Study, is_search: bool, number: int) -> bool:
    """Return whether a trial waits or runs, anywhere, or is still to be made."""
    put_back_dead(study)
    live = trials_of(study, *LIVE)
    return bool(live) or (is_search and len(counted(study)) < number)


def _stop(workers: list[Worker]) -> None:
    """Tell the workers to put their trials back and end; kill what does not."""
    for worker in workers:
        worker.process.terminate()
    for worker in workers:
        try:
            worker.process.wait(WAIT)
        except subprocess.TimeoutExpired:
            worker.process.kill()
            worker.process.wait()


class Worker:
    """A worker's process and its log.

    Args:
        task: what it works on.
        place: its number, for the log's name.
    """

    def __init__(self, task: Task, place: int) -> None:
        self.task = task
        self.log: Path = paths.STUDIES / f"worker-{place}.log"
        self.start()

    def start(self) -> None:
        """Start the process."""
        self.log.parent.mkdir(parents=True, exist_ok=True)
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "stages.tools.search.worker", self.task.to_json()],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )

    @property
    def ended(self) -> bool:
        """Whether the process is gone."""
        return self.process.poll() is not None

    @property
    def code(self) -> int:
        """Its exit code; negative for a signal."""
        return self.process.returncode or 0

    @property
    def failed_by_user(self) -> bool:
        """Whether it ended with a mistake that the user can correct; then its line is printed."""
        if self.code not in {kind.exit_code for kind in UserError.__subclasses__()}:
            return False
        lines = self.log.read_text(encoding="utf-8", errors="replace").splitlines()
        for line in [line for line in lines if line.startswith("error: ")][-1:]:
            print(line, file=sys.stderr)
        return True


def _conclude(study: Study, results: list[Finalist], wanted: Search) -> tuple[Changes | None, str]:
    """Return the best settings and the verdict; None if no finals were run."""
    if results:
        best, verdict = conclusion.verdict_of(results)
        seeds = len(best.seeds)
        if seeds < wanted.seeds:
            verdict += f"; over {seeds} of {wanted.seeds} seeds: the same command goes on"
        return best.changes, verdict
    complete = sorted(trials_of(study, TrialState.COMPLETE), key=lambda t: t.values[0])
    if not complete:
        return None, "no trial is complete"
    changes = conclusion.changes_of(complete[0], wanted.space, wanted.params)
    what = conclusion.words(changes) or conclusion.DEFAULTS
    return None, (
        f"best so far: validation log loss {complete[0].values[0]:.4f} with {what}; "
        "not compared over further seeds yet: the same command goes on"
    )


def _rows(study: Study, wanted: Search, phase: str) -> list[Row]:
    """Return the table's rows of the trials that have ended."""
    rows, best = [], float("inf")
    for trial in trials_of(study, *DONE, TrialState.FAIL):
        attributes = trial.user_attrs
        if attributes.get("reason") in ("stopped", "not needed"):
            continue
        changes = attributes.get("changes")
        if changes is None:
            changes = values_of(trial.params, wanted.space)
        else:
            changes = {e.path: changes.get(e.path, value_at(wanted.params, e.path))
                       for e in wanted.space}  # fmt: skip
        best = min(best, trial.values[0]) if trial.values else best
        rows.append(
            {
                "trial": trial.number,
                "phase": phase,
                "state": NAMES[trial.state],
                "validation_loss": attributes.get("loss"),
                "validation_accuracy": attributes.get("accuracy"),
                "best_so_far": best if best < float("inf") and phase == "search" else None,
                "seed": attributes.get("seed", wanted.params.seed),
                **{name: attributes.get(name) for name in ("epochs", "seconds", "precision")},
                **changes,
            }
        )
    return rows


def _found(
    study: Study, results: list[Finalist], best: Changes | None, verdict: str, wanted: Search
) -> dict[str, Any]:
    """Return what metrics/search.json holds."""
    states = [NAMES[trial.state] for trial in trials_of(study, *DONE)]
    return {
        "study": study.study_name,
        "data": read_object(paths.DATA_SUMMARY, "source_sha256")["source_sha256"],
        "model": wanted.params.model.source,
        "method": wanted.params.train.method,
        "space": wanted.entries,
        "distributions": {entry.path: entry.to_json() for entry in wanted.space},
        "trials": {name: states.count(name) for name in ("complete", "pruned")},
        "finalists": [
            {
                "changes": finalist.changes,
                "found": finalist.found,
                "seeds": finalist.seeds,
                "losses": finalist.losses,
                "accuracies": finalist.accuracies,
            }
            for finalist in results
        ],
        "best": best,
        "verdict": verdict,
    }


def _closing(results: list[Finalist], best: Changes | None, verdict: str) -> str:
    """Return the last lines: the finals, the verdict, and the command that uses the best."""
    lines = []
    for finalist in results:
        accuracy = 100 * mean(finalist.accuracies)
        found = "" if finalist.found is None else f" (found with {finalist.found:.4f})"
        lines.append(
            f"{finalist.loss:.4f} validation loss, {accuracy:.2f} % accuracy over "
            f"{len(finalist.seeds)} further seeds{found}: {finalist.name}"
        )
    lines.append(verdict)
    lines.append(
        f"{paths.SEARCH_TABLE} holds every trial; dvc repro compare brings it into the report"
    )
    if best:
        lines.append(option_line(best))
    return "\n".join(printable(line, 2000) for line in lines)
