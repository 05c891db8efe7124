"""A search from start to end: the trials, the finals, the record; its workers are processes."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from functools import partial
from statistics import mean

from optuna.study import Study
from optuna.trial import TrialState

from stages.core.errors import HostError
from stages.reporting.search_records import write_search
from stages.running.run import threads_of
from stages.tools.search import conclusion
from stages.tools.search.conclusion import Changes, Finalist
from stages.tools.search.live import Board
from stages.tools.search.processes import Worker, stop_all
from stages.tools.search.record import closing_lines, findings_of, rows_of
from stages.tools.search.space import value_at
from stages.tools.search.storage import open_storage, patiently
from stages.tools.search.study import (
    DONE,
    LIVE,
    counted,
    inputs_of,
    open_study,
    put_back_dead,
    trials_of,
)
from stages.tools.search.wanted import Search
from stages.tools.search.worker import Task

POLL = 0.5  # seconds between two looks at the storage
FINALS = 0.4  # share of --minutes that is kept for the finals at most
RESTARTS = 3  # workers that may die before the search gives up


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
                [*rows_of(study, wanted, "search"), *rows_of(finals, wanted, "final")],
                findings_of(study, results, best, verdict, wanted),
            )
            print(closing_lines(results, best, verdict), flush=True)
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
        stop_all(workers)


def _undone(study: Study, is_search: bool, number: int) -> bool:
    """Return whether a trial waits or runs, anywhere, or is still to be made."""
    put_back_dead(study)
    live = trials_of(study, *LIVE)
    return bool(live) or (is_search and len(counted(study)) < number)


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
