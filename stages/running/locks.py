"""What keeps two runs of a stage apart, and a run from outliving the one who wanted it."""

from __future__ import annotations

import ctypes
import os
import signal
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NoReturn

from stages.core.errors import HostError, printable

if sys.platform != "win32":
    import fcntl

LOCKS = Path("models")  # of this repository: another clone has its own
PR_SET_PDEATHSIG = 1  # of prctl.h
WATCH_EVERY = 0.2  # seconds


class Terminated(BaseException):
    """SIGTERM arrived; raised where the program stands, so that it tidies up on its way out."""


@contextmanager
def sole_run(stage: str) -> Iterator[None]:
    """Hold the stage's lock while the block runs; the kernel frees it however the process ends.

    Raises:
        HostError: if another process holds it, naming that process.
    """
    if sys.platform == "win32":
        yield  # has no such locks
        return
    LOCKS.mkdir(exist_ok=True)
    path = LOCKS / f".{stage}.lock"
    with path.open("a+", encoding="utf-8") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            file.seek(0)
            holder = printable(file.read(20)) or "unknown"
            raise HostError(
                f"stage {stage}: running already, process {holder}",
                f"wait for it, or stop it: kill {holder}",
            ) from None
        file.truncate(0)
        file.write(str(os.getpid()))
        file.flush()
        yield


def lock_holder(stage: str) -> str | None:
    """Return the number of the process that runs the stage now, None if there is none."""
    path = LOCKS / f".{stage}.lock"
    if sys.platform == "win32" or not path.exists():
        return None
    with path.open("a+", encoding="utf-8") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            file.seek(0)
            return printable(file.read(20)) or "unknown"
    return None


def is_alive(process: int) -> bool:
    """Return whether there is a process of this number."""
    try:
        os.kill(process, 0)
    except (ProcessLookupError, OverflowError):
        return False
    except PermissionError:  # it is somebody else's
        return True
    return True


def end_with_the_run() -> None:
    """Turn SIGTERM into Terminated and, under DVC on Linux, end the moment that DVC is gone.

    DVC leaves its child running when it is killed, and a second run would then share its outputs.
    Some shells that DVC starts the stage with stay between the two: then DVC itself is watched.
    """
    signal.signal(signal.SIGTERM, _terminate)
    if "DVC_STAGE" in os.environ and sys.platform == "linux":
        parent = os.getppid()
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != parent:  # it was gone before this was asked for
            sys.exit(128 + signal.SIGKILL)
        if b"-c\0" in Path(f"/proc/{parent}/cmdline").read_bytes():  # a shell with a command
            threading.Thread(target=_watch, args=(parent, _parent_of(parent)), daemon=True).start()


def _watch(shell: int, dvc: int) -> None:
    while _parent_of(shell) == dvc:
        time.sleep(WATCH_EVERY)
    os.kill(os.getpid(), signal.SIGKILL)


def _parent_of(process: int) -> int:
    """Return the number of a process's parent, 0 if the process is gone."""
    try:
        stat = Path(f"/proc/{process}/stat").read_text(encoding="utf-8")
    except OSError:
        return 0
    return int(stat.rpartition(")")[2].split()[1])  # behind the name, which may hold anything


def _terminate(*_: object) -> NoReturn:
    raise Terminated
