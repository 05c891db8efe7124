"""Two runs of a stage are kept apart, and a stage ends together with the DVC that started it."""

from __future__ import annotations

import ctypes
import os
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NoReturn

from filelock import FileLock, Timeout

from stages.core import paths
from stages.core.errors import HostError, printable

PR_SET_PDEATHSIG = 1  # of prctl.h


class Terminated(BaseException):
    """SIGTERM arrived; raised where the program is, so that it cleans up on its way out."""


@contextmanager
def sole_run(stage: str) -> Iterator[None]:
    """Hold the stage's lock while the block runs; the kernel frees it however the process ends.

    Raises:
        HostError: if another process holds it, naming that process.
    """
    path = lock_of(stage)
    path.parent.mkdir(exist_ok=True)
    try:
        with FileLock(path, timeout=0):  # guard: one run of a stage -> if path:
            path.write_text(str(os.getpid()), encoding="utf-8")
            yield
    except Timeout:
        holder = _holder(path)
        raise HostError(
            f"stage {stage}: running already, process {holder}",
            f"wait for it, or stop it: kill {holder}",
        ) from None


def lock_holder(stage: str) -> str | None:
    """Return the number of the process that runs the stage now, None if there is none."""
    path = lock_of(stage)
    if not path.exists():
        return None
    try:
        with FileLock(path, timeout=0):
            return None
    except Timeout:
        return _holder(path)


def lock_of(stage: str) -> Path:
    """Return the stage's lock file; each clone of the project has its own."""
    return paths.MODELS / f".{stage}.lock"


def _holder(path: Path) -> str:
    return printable(path.read_text(encoding="utf-8", errors="replace")[:20]) or "unknown"


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


def _terminate(*_: object) -> NoReturn:
    raise Terminated
