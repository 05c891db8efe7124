"""`python -m stages NAME`: check the params, set the environment, then import the stage and run it.

Torch and what else is heavy is imported once params.yaml is known to be right.
"""

import sys
from collections.abc import Callable
from importlib import import_module
from typing import NoReturn

from stages.core.errors import ParamsError
from stages.core.params import Params
from stages.running.run import Facts, run_stage

STAGES = (
    *("prepare", "fetch_base", "evaluate_tfidf", "evaluate_base"),
    *("train_lora", "evaluate_adapter", "compare"),
)
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

    run_stage(name, stage, before=_before(name), shared_by=_processes if name in SHARED else None)


def _before(name: str) -> Callable[[Params], None] | None:
    """Return what warns of a source that has changed since it was prepared or fetched."""
    if name in ("prepare", "fetch_base"):
        return None

    def warn(params: Params) -> None:
        from stages.rows.prepared import warn_if_data_changed, warn_if_source_changed

        (warn_if_data_changed if name == "evaluate_tfidf" else warn_if_source_changed)(params)

    return warn


def _processes(params: Params) -> int:
    """Return how many processes share the stage; torch is not imported for one."""
    if params.compute.processes == 1:
        return 1
    from stages.model.device import processes_of

    return processes_of(params)


if __name__ == "__main__":
    main()
