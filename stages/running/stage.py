"""How every stage starts and ends: checked params, a quiet environment, one line for a mistake."""

from __future__ import annotations

import io
import sys
import time
from collections.abc import Callable
from typing import NoReturn

from stages.core.params import Params, load_params
from stages.running.disk import enough_room
from stages.running.environment import set_environment
from stages.running.exit_codes import exit_code_of
from stages.running.locks import end_with_dvc, sole_run
from stages.running.provenance import record

Facts = dict[str, str]


def run_stage(
    stage: Callable[[Params], Facts | None], before: Callable[[Params], None] | None = None
) -> NoReturn:
    """Run a stage on the params of params.yaml and end the process with its exit code.

    Args:
        stage: returns facts for the provenance, for example the device that it used, or None.
        before: what to check first; it may print a warning.
    """
    name = stage.__name__

    def load_and_run() -> None:
        params = load_params()
        set_environment(params.compute)
        if before is not None:
            before(params)
        start = time.perf_counter()
        with sole_run(name), enough_room(name):
            facts = stage(params)
        record(name, time.perf_counter() - start, facts or {})

    end_with_dvc()
    if isinstance(sys.stdout, io.TextIOWrapper):  # a label may hold what the locale cannot show
        sys.stdout.reconfigure(errors="backslashreplace")
    sys.exit(exit_code_of(load_and_run))
