"""How every stage starts and ends: checked params, a quiet environment, one line for a mistake."""

from __future__ import annotations

import errno
import io
import os
import signal
import sys
import time
import warnings
from collections.abc import Callable
from contextlib import suppress
from typing import NoReturn

from stages.core import paths
from stages.core.artefacts import read_json
from stages.core.errors import HostError, UserError, printable
from stages.core.params import ComputeParams, Params, load_params
from stages.rows.checks import source_changed
from stages.running.disk import enough_room
from stages.running.locks import Terminated, end_with_the_run, sole_run
from stages.running.provenance import record


def run_stage(stage: Callable[[Params], dict[str, str] | None]) -> NoReturn:
    """Run `stage` on the params of params.yaml and end the process with its exit code."""

    def load_and_run() -> None:
        params = load_params()
        set_environment(params.compute)
        if stage.__name__ != "prepare":  # prepare reads the source anew
            warn_of_changed_source(params)
        start = time.perf_counter()
        with sole_run(stage.__name__), enough_room(stage.__name__):
            stage(params)
        record(stage.__name__, params, time.perf_counter() - start)

    end_with_the_run()
    if isinstance(sys.stdout, io.TextIOWrapper):  # a label may hold what the locale cannot show
        sys.stdout.reconfigure(errors="backslashreplace")
    sys.exit(exit_code_of(load_and_run))


def exit_code_of(work: Callable[[], None]) -> int:
    """Run `work`; print a user's mistake as its lines on stderr, and return the exit code.

    A bug is not caught: it keeps its traceback.
    """
    try:
        work()
    except UserError as error:
        _say(error)
        return error.exit_code
    except KeyboardInterrupt:
        _say("interrupted")
        return 128 + signal.SIGINT
    except Terminated:
        _say("terminated")
        return 128 + signal.SIGTERM
    except OSError as error:
        fault = _environment_fault(error)
        if fault is None:
            raise
        _say(fault)
        return fault.exit_code
    return 0


def _say(last: object) -> None:
    """Print the last line on stderr, behind what a log still waits for on stdout."""
    with suppress(OSError, ValueError):  # a closed pipe, or none
        sys.stdout.flush()
    print(last, file=sys.stderr)


def _environment_fault(error: OSError) -> HostError | None:
    """Return the user's view of what the disk does not allow, None for anything else."""
    place = printable(error.filename or "the disk")
    if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
        return HostError(f"{place}: no space left", "free some space and run again")
    if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
        return HostError(f"{place}: no permission", "make it writable for this user and run again")
    if error.errno in (errno.EEXIST, errno.ENOTDIR, errno.EISDIR):
        what = f"{place}: a file stands where a folder belongs, or a folder where a file does"
        return HostError(what, "move it away and run again")
    return None


def cores() -> int:
    """Return how many cores this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def threads_of(compute: ComputeParams) -> int:
    """Return how many processor threads the params mean on this machine."""
    return cores() if compute.threads == "auto" else compute.threads


def warn_of_changed_source(params: Params) -> None:
    """Say so if the user's own file is not the one that the prepared rows come from."""
    with suppress(UserError, OSError):  # a warning stops nothing: the stages check what they need
        summary = read_json(paths.DATA_SUMMARY)
        recorded = summary.get("source_sha256") if isinstance(summary, dict) else None
        if recorded and (warning := source_changed(params.data, recorded)):
            print(f"warning: {warning}", file=sys.stderr)


def set_environment(compute: ComputeParams) -> None:
    """Set what libraries read when they are imported: threads, and no chatter.

    The thread count is set here whatever the shell says, since it changes the last bits of sums.
    """
    threads = threads_of(compute)
    for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
        os.environ[name] = str(threads)
    os.environ["TOKENIZERS_PARALLELISM"] = "true"
    os.environ["HF_HUB_DISABLE_TELEMETRY"] = "1"
    os.environ["TRANSFORMERS_VERBOSITY"] = "error"
    os.environ["CUBLAS_WORKSPACE_CONFIG"] = ":4096:8"
    # What libraries say to each other about their next releases is no concern of a user.
    warnings.filterwarnings("ignore", category=FutureWarning, module="(transformers|peft)")
