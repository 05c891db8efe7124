"""Several processes share a stage: they are started, join, gather and wait for one another.

The stage starts them itself with PyTorch's elastic launcher, or joins those that torchrun has
started on one machine or several. For a process alone each message returns at once, with what it
was given.
"""

import logging
import os
import re
import signal
import sys
import tempfile
from collections.abc import Callable, Mapping
from datetime import timedelta
from typing import Any, TypeVar

import torch.distributed as dist
from torch.distributed.elastic.multiprocessing import DefaultLogsSpecs, SignalException
from torch.distributed.elastic.multiprocessing.errors import ChildFailedError, get_error_handler
from torch.distributed.launcher.api import LaunchConfig, elastic_launch

from stages.core.errors import HostError, Terminated, UserError, print_last, printable
from stages.running.run import LAUNCHER, world

T = TypeVar("T")
ENDING = 5  # seconds that a process gets to end before it is killed
WAIT = timedelta(minutes=30)  # for one another: one may write a checkpoint meanwhile
LOST = re.compile(
    r"connection (closed|reset|refused)|broken pipe|time(d )?out|communicator was aborted",
    re.IGNORECASE,
)


def launch(stage: str, count: int) -> None:
    """Run the stage in `count` processes on this machine; return once all have ended well.

    If one ends otherwise, the others are ended too.

    Raises:
        HostError: if a process was killed.
        SystemExit: if one failed, with its exit code; what it reports has been printed.
    """
    logging.getLogger("torch.distributed").setLevel(logging.CRITICAL)
    os.environ[LAUNCHER] = str(os.getpid())
    with tempfile.TemporaryDirectory(prefix="processes-", ignore_cleanup_errors=True) as folder:
        config = LaunchConfig(
            min_nodes=1,
            max_nodes=1,
            nproc_per_node=count,
            logs_specs=DefaultLogsSpecs(log_dir=folder),
            run_id=stage,
            rdzv_backend="c10d",
            rdzv_endpoint="127.0.0.1:0",
            local_addr="127.0.0.1",
            max_restarts=0,
            shutdown_timeout=ENDING,
        )
        try:
            elastic_launch(config, sys.executable)("-m", "stages", stage)
        except ChildFailedError as error:
            raise _cause(stage, count, error.failures) from None
        except SignalException as error:
            raise (KeyboardInterrupt if error.sigval == signal.SIGINT else Terminated) from None


class LostError(HostError):
    """Another process is gone; why is for that process, or for its launcher, to say."""


def report(error: UserError) -> None:
    """Leave a mistake of the user where the launcher looks for it."""
    if not isinstance(error, LostError):
        get_error_handler().record_exception(error)


def _cause(stage: str, count: int, failures: Mapping[int, Any]) -> BaseException:
    """Return what ended the processes: the first cause, not what followed from it.

    Args:
        stage: its name.
        count: how many processes there were.
        failures: PyTorch's `ProcessFailure` by rank, of those that had failed when it looked.
    """
    told = [failure for failure in failures.values() if isinstance(failure.message, dict)]
    if told:
        first = min(told, key=lambda failure: int(failure.exitcode))
        print_last(first.message["message"].partition(": ")[2])  # after the name of its class
        return SystemExit(first.exitcode)
    again = "run it again: a training continues from its last checkpoint"
    # What the launcher itself has ended by then, it has ended with SIGTERM.
    for rank, failure in sorted(failures.items(), key=lambda i: i[1].exitcode == -signal.SIGTERM):
        if failure.exitcode < 0:
            return HostError(
                f"stage {stage}: process {rank + 1} of {count} was ended from outside "
                f"({failure.signal_name()}), and so the others were",
                f"{again}; where memory was short, lower compute.processes",
            )
    if all(failure.exitcode == LostError.exit_code for failure in failures.values()):
        return HostError(f"stage {stage}: its {count} processes have lost one another", again)
    return SystemExit(1)  # a bug, whose traceback is printed


def join(backend: str) -> None:
    """Connect with the other processes of this stage.

    Args:
        backend: PyTorch's name of what carries the messages, for example gloo.

    Raises:
        HostError: if the others cannot be reached.
    """
    me = world()
    if me.size == 1 or dist.is_initialized():
        return
    try:
        dist.init_process_group(backend, timeout=WAIT)
    except (RuntimeError, ValueError) as error:
        place = f"{os.environ.get('MASTER_ADDR')}:{os.environ.get('MASTER_PORT')}"
        why = printable(str(error).partition("\n")[0], 200)
        raise HostError(
            f"process {me.rank + 1} of {me.size}: cannot join the others at {place}: {why}",
            "see that torchrun runs on all machines, and that each of them reaches this address",
        ) from None


def run_connected(work: Callable[[], T]) -> T:
    """Return what `work` returns, and disconnect.

    Raises:
        LostError: if another process has ended in the middle of it.
    """
    try:
        result = work()
        if dist.is_initialized():
            dist.destroy_process_group()
    except RuntimeError as error:
        if share()[1] == 1 or not (isinstance(error, dist.DistError) or LOST.search(str(error))):
            raise
        raise LostError(
            f"process {world().rank + 1} of {world().size}: another process has ended",
            "look at what that one says, and start all of them again: a training continues from "
            "its last checkpoint",
        ) from None
    return result


def share() -> tuple[int, int]:
    """Return the number of this process, from 0, and how many share the work."""
    return (dist.get_rank(), dist.get_world_size()) if dist.is_initialized() else (0, 1)


def leads() -> bool:
    """Return whether this process is the first: it alone writes."""
    return share()[0] == 0


def gathered(item: T) -> list[T]:
    """Return the items of all processes in their order, the same on each."""
    size = share()[1]
    if size == 1:
        return [item]
    items: list[Any] = [None] * size
    dist.all_gather_object(items, item)
    return items


def from_first(make: Callable[[], T]) -> T:
    """Return what `make` returns on the first process; the others do not call it."""
    rank, size = share()
    made: list[Any] = [make() if rank == 0 else None]
    if size > 1:
        dist.broadcast_object_list(made, src=0)
    return made[0]  # type: ignore[no-any-return]  # what the first process made


def wait_for_all() -> None:
    """Return once every process has come here."""
    gathered(None)
