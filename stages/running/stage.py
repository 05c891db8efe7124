"""How every stage starts and ends: checked params, a quiet environment, one line for a mistake."""

from __future__ import annotations

import io
import sys
import time
from collections.abc import Callable
from typing import NoReturn

from stages.core.params import Params, load_params
from stages.running import processes
from stages.running.disk import enough_room
from stages.running.environment import set_environment
from stages.running.exit_codes import exit_code_of, print_last
from stages.running.locks import end_with_dvc, sole_run
from stages.running.provenance import record

Facts = dict[str, str]
Stage = Callable[[Params], Facts | None]


def run_stage(
    stage: Stage,
    before: Callable[[Params], None] | None = None,
    shared_by: Callable[[Params], int] | None = None,
) -> NoReturn:
    """Run a stage on the params of params.yaml and end the process with its exit code.

    Args:
        stage: returns facts for the provenance, for example the device that it used, or None.
        before: what to check first; it may print a warning.
        shared_by: returns how many processes share the work; None if the stage is not for several.
    """
    end_with_dvc()
    if isinstance(sys.stdout, io.TextIOWrapper):  # a label may hold what the locale cannot show
        sys.stdout.reconfigure(errors="backslashreplace")
    sys.exit(exit_code_of(lambda: _load_and_run(stage, before, shared_by), _say))


def _load_and_run(
    stage: Stage,
    before: Callable[[Params], None] | None,
    shared_by: Callable[[Params], int] | None,
) -> None:
    name = stage.__name__
    place = processes.enter()
    params = load_params()
    set_environment(params.compute, place.local_size)
    start = time.perf_counter()
    if not place.leads or place.launcher is not None:
        # The first process, or the one that started it, has the lock and has looked at the disk.
        facts = _connected(stage, params) if shared_by is not None else {}
        if place.leads:
            record(name, time.perf_counter() - start, facts or {})
        return
    if before is not None:
        before(params)
    start = time.perf_counter()
    with sole_run(name), enough_room(name):
        count = shared_by(params) if shared_by is not None and place.size == 1 else 1
        if count > 1:
            processes.launch(name, count)
            return
        shared = shared_by is not None and place.size > 1
        facts = _connected(stage, params) if shared else stage(params)
    record(name, time.perf_counter() - start, facts or {})


def _connected(stage: Stage, params: Params) -> Facts | None:
    """Run the stage as one of several processes."""
    from stages.running.ranks import run_connected

    return run_connected(lambda: stage(params))


def _say(line: object) -> None:
    """Say why this process ends: to the user, or to the process that started it."""
    processes.report(line)
    if processes.world().launcher is None:
        print_last(line)
