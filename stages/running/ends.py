"""How a process ends: its last line for a user's mistake, and its exit code."""

import errno
import signal
import sys
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from stages.core.errors import HostError, UserError, printable

FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
FORBIDDEN = (errno.EACCES, errno.EPERM, errno.EROFS)
IN_THE_WAY = (errno.EEXIST, errno.ENOTDIR, errno.EISDIR)


class Terminated(BaseException):
    """SIGTERM arrived; raised where the program is, so that it cleans up on its way out."""


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
    if error.errno in FULL:
        return HostError(f"{place}: no space left", "free some space and run again")
    if error.errno in FORBIDDEN:
        return HostError(f"{place}: no permission", "make it writable for this user and run again")
    if error.errno in IN_THE_WAY:
        what = f"{place}: a file is where a folder belongs, or a folder where a file does"
        return HostError(what, "move it away and run again")
    return None
