"""How a stage starts and ends: checked params, environment, lock, one line for a mistake.

No subject and no heavy library is imported here, so that a mistake in params.yaml is said at once.
"""

import ctypes
import io
import os
import signal
import sys
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import NoReturn

from filelock import FileLock, Timeout

from stages.core import paths
from stages.core.artefacts import refuse_conflicts
from stages.core.errors import HostError, Terminated, UserError, exit_code_of, print_last, printable
from stages.core.params import ComputeParams, Params, load_params
from stages.running.dvc import enough_room
from stages.running.provenance import record

Facts = dict[str, str]
Stage = Callable[[Params], Facts | None]
LAUNCHER = "BERT_LORA_LAUNCHER"  # the process that started this one to share its stage
PR_SET_PDEATHSIG = 1  # of prctl.h


def run_stage(
    name: str,
    stage: Stage,
    before: Callable[[Params], None] | None = None,
    shared_by: Callable[[Params], int] | None = None,
) -> NoReturn:
    """Run a stage on the params of params.yaml and end the process with its exit code.

    Args:
        name: its name in dvc.yaml.
        stage: returns facts for the provenance, for example the device that it used, or None.
        before: what to check first; it may print a warning.
        shared_by: returns how many processes share the work; None if the stage is not for several.
    """
    end_with_dvc()
    if isinstance(sys.stdout, io.TextIOWrapper):  # a label may hold what the locale cannot show
        sys.stdout.reconfigure(errors="backslashreplace")
    sys.exit(exit_code_of(lambda: _load_and_run(name, stage, before, shared_by), _say))


def _load_and_run(
    name: str,
    stage: Stage,
    before: Callable[[Params], None] | None,
    shared_by: Callable[[Params], int] | None,
) -> None:
    place = enter()
    params = load_params()
    refuse_conflicts(*paths.RECORDS)  # the last stage reads them
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
            # It imports torch, which one process alone may not need.
            from stages.running.processes import launch

            launch(name, count)
            return
        shared = shared_by is not None and place.size > 1
        facts = _connected(stage, params) if shared else stage(params)
    record(name, time.perf_counter() - start, facts or {})


def _connected(stage: Stage, params: Params) -> Facts | None:
    """Run the stage as one of several processes."""
    from stages.running.processes import run_connected  # it imports torch

    return run_connected(lambda: stage(params))


def _say(line: object) -> None:
    """Say why this process ends: to the user, or to the process that started it."""
    if world().size > 1 and isinstance(line, UserError):
        from stages.running.processes import report  # it imports torch

        report(line)
    if world().launcher is None:
        print_last(line)


@dataclass(frozen=True)
class World:
    """The processes that share a stage, and which of them this one is.

    Attributes:
        rank: its number, from 0.
        size: how many there are.
        local_rank: its number among those on this machine.
        local_size: how many are on this machine.
        launcher: the process of this project that started it; None for another launcher.
    """

    rank: int = 0
    size: int = 1
    local_rank: int = 0
    local_size: int = 1
    launcher: int | None = None

    @property
    def leads(self) -> bool:
        """Whether this is the first process, which alone writes and prints."""
        return self.rank == 0


_world = World()


def world() -> World:
    """Return the processes that share the stage; a process alone unless `enter` was called."""
    return _world


def enter() -> World:
    """Take the place that torchrun's variables give this process, and return it.

    A process that shares a stage ends with the one that started it; all but the first print
    nothing.

    Raises:
        HostError: if the variables are not numbers.
    """
    global _world  # a process has one place, from its start to its end
    named = {"RANK": "", "WORLD_SIZE": "", "LOCAL_RANK": "0", "LOCAL_WORLD_SIZE": "1"}
    named = {name: os.environ.get(name, value) for name, value in named.items()}
    if "" in named.values():
        return _world
    os.environ.update(named)  # libraries read them too
    try:
        rank, size, local_rank, local_size = map(int, named.values())
    except ValueError:
        shown = ", ".join(f"{name}={value}" for name, value in named.items())
        fix = "start the processes with torchrun, or unset these variables to run in one process"
        raise HostError(f"the environment's {printable(shown)}: not numbers", fix) from None
    if size == 1:
        for name in named:  # or a library would open a connection
            os.environ.pop(name)
        return _world
    launcher = os.environ.get(LAUNCHER)
    _world = World(rank, size, local_rank, local_size, int(launcher) if launcher else None)
    os.environ.setdefault("TORCH_CPP_LOG_LEVEL", "FATAL")  # what ends is said in one line
    if local_size == size:  # no network is needed, and a name server may be missing
        os.environ.setdefault("GLOO_SOCKET_IFNAME", "lo0" if sys.platform == "darwin" else "lo")
    # At once: while a process waits for the others, Python would not come to its own handler.
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    end_with(_world.launcher or os.getppid())
    if not _world.leads:
        sys.stdout = open(os.devnull, "w", encoding="utf-8")  # noqa: SIM115, PTH123  # until the end
        warnings.simplefilter("ignore")  # the first process has the same ones
    return _world


def _terminate(*_: object) -> NoReturn:
    raise Terminated


def end_with_dvc() -> None:
    """Turn SIGTERM into Terminated and, under DVC on Linux, end the moment that DVC is gone.

    DVC leaves its child running when it is killed, and a second run would then share its outputs.
    The commands in dvc.yaml start with `exec`, so that this process takes the place of the shell
    and its parent is DVC itself.
    """
    signal.signal(signal.SIGTERM, _terminate)  # guard: SIGTERM
    if "DVC_STAGE" in os.environ:
        end_with(os.getppid())


def end_with(parent: int) -> None:
    """End, on Linux, the moment that the process that started this one is gone.

    Args:
        parent: its number.
    """
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)  # guard: end with DVC
        if os.getppid() != parent:  # it was gone before this was requested
            sys.exit(128 + signal.SIGKILL)


@contextmanager
def sole_run(stage: str) -> Iterator[None]:
    """Hold the stage's lock while the block runs; the kernel frees it however the process ends.

    Each clone of the project has its own locks.

    Raises:
        HostError: if another process holds it, naming that process.
    """
    path = paths.MODELS / f".{stage}.lock"
    path.parent.mkdir(exist_ok=True)
    try:
        with FileLock(path, timeout=0):  # guard: one run of a stage -> if path:
            path.write_text(str(os.getpid()), encoding="utf-8")
            yield
    except Timeout:
        holder = printable(path.read_text(encoding="utf-8", errors="replace")[:20]) or "unknown"
        raise HostError(
            f"stage {stage}: running already, process {holder}",
            f"wait for it, or stop it: kill {holder}",
        ) from None


def threads_of(compute: ComputeParams, processes: int = 1) -> int:
    """Return how many processor threads the params mean for one process on this machine.

    `auto` is the cores that this process may use: its affinity and a container's quota count.

    Args:
        compute: the params.
        processes: how many on this machine share the threads.
    """
    threads = compute.threads
    if threads == "auto":
        from joblib import cpu_count  # it imports numpy

        threads = int(cpu_count())
    return max(1, threads // processes)


def set_environment(compute: ComputeParams, processes: int = 1) -> None:
    """Set threads and verbosity for the libraries that are imported afterwards.

    The thread count is set whatever the shell says, since it changes the last bits of sums.

    Args:
        compute: the params.
        processes: how many on this machine share the threads.
    """
    threads = str(threads_of(compute, processes))
    for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
        os.environ[name] = threads
    os.environ["TOKENIZERS_PARALLELISM"] = "true"
    os.environ["HF_HUB_DISABLE_TELEMETRY"] = "1"
    os.environ["TRANSFORMERS_VERBOSITY"] = "error"
    os.environ["CUBLAS_WORKSPACE_CONFIG"] = ":4096:8"
    # An operator that Apple's GPU lacks is computed by the processor.
    os.environ["PYTORCH_ENABLE_MPS_FALLBACK"] = "1"
    # Warnings about the next releases of libraries do not concern a user.
    warnings.filterwarnings(
        "ignore", category=FutureWarning, module="(transformers|peft|accelerate)"
    )
