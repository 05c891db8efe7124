"""`python -m stages NAME`: check the params, set the environment, then import the stage and run it.

Torch and what else is heavy is imported once params.yaml is known to be right.
"""

import sys
from collections.abc import Callable
from functools import partial
from importlib import import_module
from typing import NoReturn

from stages.core.errors import ParamsError
from stages.core.params import Params
from stages.running.run import Facts, run_stage
from stages.sources.catalogue import Kind

STAGES = (
    *("prepare", "fetch_base", "evaluate_tfidf", "evaluate_base"),
    *("train_lora", "evaluate_adapter", "compare"),
)
SOURCES: dict[str, Kind] = {"prepare": "data", "fetch_base": "models"}
SHARED = ("evaluate_base", "train_lora", "evaluate_adapter")  # by compute.processes


def main() -> NoReturn:
    """Run the stage that the command line names."""
    name = sys.argv[1] if len(sys.argv) == 2 else ""
    if name not in STAGES:
        print(ParamsError("expected the name of one stage", f"name one of {', '.join(STAGES)}"))
        sys.exit(ParamsError.exit_code)

    def stage(params: Params) -> Facts | None:
        work: Callable[[Params], Facts | None] = getattr(import_module(f"stages.{name}"), name)
        return work(params)

    run_stage(
        name, stage, before=partial(_look, name), shared_by=_processes if name in SHARED else None
    )


def _look(name: str, params: Params) -> None:
    """Look at the user's own sources before a stage runs.

    A stage that reads one checks that an experiment has all of it; the others warn of one that
    has changed since it was prepared or fetched.
    """
    if name in SOURCES:
        from stages.sources.own import check_in_experiment, sources_of

        check_in_experiment({SOURCES[name]: sources_of(params)[SOURCES[name]]})
    else:
        from stages.sources.own import warn_if_changed

        warn_if_changed(params, with_model=name != "evaluate_tfidf")


def _processes(params: Params) -> int:
    """Return how many processes share the stage; torch is not imported for one."""
    if params.compute.processes == 1:
        return 1
    from stages.model.device import processes_of

    return processes_of(params)


if __name__ == "__main__":
    main()
