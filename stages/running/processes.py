"""Several processes work on one stage: who they are, and how they are started.

The stage starts them itself with PyTorch's elastic launcher, or joins those that torchrun or SLURM
has started. Nothing here imports torch before it is needed: one process alone never does.
"""

from __future__ import annotations

import json
import logging
import os
import signal
import sys
import tempfile
import time
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from stages.core.errors import HostError, UserError
from stages.running.launchers import rank_variables
from stages.running.locks import Terminated, end_with

LAUNCHER = "BERT_LORA_LAUNCHER"  # the process that started this one to share its stage
REPORT = "TORCHELASTIC_ERROR_FILE"  # where PyTorch's launchers look for the reason of a failure
ENDING = 5  # seconds that a process gets to end before it is killed


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
    """Take the place that the environment gives this process, and return it.

    A process that shares a stage ends with the one that started it; all but the first print
    nothing.

    Raises:
        HostError: if the launcher's variables contradict one another.
    """
    global _world  # a process has one place, from its start to its end
    named = rank_variables(os.environ)
    if named is None:
        return _world
    os.environ.update(named)  # under the names that the libraries read
    rank, size, local_rank, local_size = (
        int(named[name]) for name in ("RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE")
    )
    if size == 1:
        for name in named:
            os.environ.pop(name, None)
        return _world
    launcher = os.environ.get(LAUNCHER)
    _world = World(rank, size, local_rank, local_size, int(launcher) if launcher else None)
    os.environ.setdefault("TORCH_CPP_LOG_LEVEL", "FATAL")  # what ends is said in one line
    if local_size == size:  # no network is needed, and a name server may be missing
        os.environ.setdefault("GLOO_SOCKET_IFNAME", "lo0" if sys.platform == "darwin" else "lo")
    # At once, even while it waits for the others: Python would first let that wait return.
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    end_with(_world.launcher or os.getppid())
    if not _world.leads:
        sys.stdout = open(os.devnull, "w", encoding="utf-8")  # noqa: SIM115, PTH123  # until the end
        warnings.simplefilter("ignore")  # the first process has the same ones
    return _world


def launch(stage: str, count: int) -> None:
    """Run the stage in `count` processes on this machine; return once all have ended well.

    If one ends otherwise, the others are ended too.

    Raises:
        UserError: what the process that failed first reports, or that it was killed.
        SystemExit: if it failed with a bug, whose traceback it has printed.
    """
    from torch.distributed.elastic.multiprocessing import DefaultLogsSpecs, SignalException
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
    from torch.distributed.launcher.api import LaunchConfig, elastic_launch

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
            elastic_launch(config, sys.executable)("-m", f"stages.{stage}")
        except ChildFailedError as error:
            raise _cause(stage, count, error.failures) from None
        except SignalException as error:
            raise (KeyboardInterrupt if error.sigval == signal.SIGINT else Terminated) from None


class LostError(HostError):
    """Another process is gone; why is for that process, or for its launcher, to say."""


def report(error: object) -> None:
    """Leave a mistake of the user where the launcher looks for it, if there is one."""
    path = os.environ.get(REPORT)
    if path is None or not isinstance(error, UserError):
        return
    content = {
        "message": str(error),
        "faults": error.faults,
        "errorCode": error.exit_code,
        "lost": isinstance(error, LostError),
        "extraInfo": {"timestamp": str(int(time.time())), "py_callstack": ""},
    }
    with open(path, "w", encoding="utf-8") as file:  # noqa: PTH123  # the launcher's own path
        json.dump({"message": content}, file)


def _cause(stage: str, count: int, failures: Mapping[int, Any]) -> BaseException:
    """Return what ended the processes: the first cause, not what followed from it.

    Args:
        stage: its name.
        count: how many processes there were.
        failures: PyTorch's `ProcessFailure` by rank, of those that had failed when it looked.
    """
    told = {r: f.message for r, f in failures.items() if isinstance(f.message, dict)}
    first = sorted((m for m in told.values() if not m["lost"]), key=lambda m: m["errorCode"])
    if first:
        error = UserError.from_faults([(what, fix) for what, fix in first[0]["faults"]])
        error.exit_code = first[0]["errorCode"]
        return error
    # What the launcher itself has ended by then, it has ended with SIGTERM.
    for rank, failure in sorted(failures.items(), key=lambda i: i[1].exitcode == -signal.SIGTERM):
        if failure.exitcode < 0:
            return HostError(
                f"stage {stage}: process {rank + 1} of {count} was ended from outside "
                f"({failure.signal_name()}), and so the others were",
                "run it again: a training continues from its last checkpoint; where memory was "
                "short, lower compute.processes",
            )
    if len(told) < len(failures):
        return SystemExit(1)
    return lost()


def lost() -> LostError:
    """Return the mistake of a process whose connection to another one broke."""
    return LostError(
        f"process {_world.rank + 1} of {_world.size}: another process has ended",
        "look at what that one says, and start all of them again: a training continues from its "
        "last checkpoint",
    )
