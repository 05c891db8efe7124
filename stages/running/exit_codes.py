"""How a process ends: one line for a user's mistake, and its exit code."""

from __future__ import annotations

import errno
import signal
import sys
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from stages.core.errors import HostError, UserError, printable
from stages.running.locks import Terminated


def exit_code_of(work: Callable[[], None], say: Callable[[object], None] | None = None) -> int:
    """Run `work`; print a user's mistake as its lines on stderr, and return the exit code.

    A bug is not caught: it keeps its traceback.

    Args:
        work: what to run.
        say: what to do with the last line instead of printing it.
    """
    say = say or print_last
    try:
        work()
    except UserError as error:
        say(error)
        return error.exit_code
    except KeyboardInterrupt:
        say("interrupted")
        return 128 + signal.SIGINT
    except Terminated:
        say("terminated")
        return 128 + signal.SIGTERM
    except OSError as error:
        fault = _environment_fault(error)
        if fault is None:
            raise
        say(fault)
        return fault.exit_code
    return 0


def print_last(line: object) -> None:
    """Print the last line on stderr, after what is still buffered for stdout."""
    with suppress(OSError, ValueError):  # a closed pipe, or none
        sys.stdout.flush()
    print(line, file=sys.stderr)


def _environment_fault(error: OSError) -> HostError | None:
    """Return the user's view of what the disk does not allow, None for anything else."""
    name = error.filename
    place = printable(Path(name) if isinstance(name, str) else name or "the disk")
    if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
        return HostError(f"{place}: no space left", "free some space and run again")
    if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
        return HostError(f"{place}: no permission", "make it writable for this user and run again")
    if error.errno in (errno.EEXIST, errno.ENOTDIR, errno.EISDIR):
        what = f"{place}: a file is where a folder belongs, or a folder where a file does"
        return HostError(what, "move it away and run again")
    return None
