"""The mistakes a user can make, each with its exit code and its fix, and how a process ends."""

import errno
import signal
import sys
import unicodedata
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path, PurePath

PATH_LIMIT = 1000  # characters; a truncated path would no longer name the file


def printable(value: object, limit: int = 80) -> str:
    """Return `value` as one safe line for a terminal or a log.

    Control characters, line breaks and direction overrides are escaped, and what is longer than
    `limit` characters (a path: than 1000) is cut, so that a text of the data can neither move the
    cursor nor fake a log line.
    """
    text = str(value)
    limit = PATH_LIMIT if isinstance(value, PurePath) else limit
    return _escaped(text if len(text) <= limit else text[: limit - 3] + "...")


def _escaped(text: str) -> str:
    # guard: escaped characters -> return text
    return "".join(
        c if c == " " or unicodedata.category(c)[0] not in "CZ" else ascii(c)[1:-1] for c in text
    )


class UserError(Exception):
    """A mistake that the user can correct: ends in one line per fault and `exit_code`.

    Args:
        what: where the fault is and what is wrong, for example "params.yaml: lora.r: expected ...".
        fix: what to do about it, as an instruction.
    """

    exit_code = 1

    def __init__(self, what: str, fix: str) -> None:
        super().__init__(what, fix)
        self.faults: list[tuple[str, str]] = [(what, fix)]

    @classmethod
    def from_faults(cls, faults: Sequence[tuple[str, str]]) -> "UserError":
        """Return one error that reports all (what, fix) pairs together.

        Raises:
            ValueError: if there is no fault to report.
        """
        if not faults:
            raise ValueError("no faults")
        error = cls(*faults[0])
        error.faults = list(faults)
        return error

    def __str__(self) -> str:
        return "\n".join(
            _escaped(f"error: {what}{'' if what.endswith('?') else '.'} Fix: {fix}")
            for what, fix in self.faults
        )


class ParamsError(UserError):
    """A fault in params.yaml or in the command line."""

    exit_code = 2


class DataError(UserError):
    """A fault in the labelled data."""

    exit_code = 3


class ModelError(UserError):
    """A fault in the base model, its head or the adapter."""

    exit_code = 4


class HostError(UserError):
    """A fault of the environment: disk, network, permission or lock."""

    exit_code = 5


class NumericsError(UserError):
    """A loss, a gradient or a weight that is not a finite number."""

    exit_code = 6


class Terminated(BaseException):
    """SIGTERM arrived; raised where the program is, so that it cleans up on its way out."""


# What the disk does not allow, by the number of the error: what is said, and the remedy.
FULL = "no space left", "free some space and run again"
FORBIDDEN = "no permission", "make it writable for this user and run again"
IN_THE_WAY = (
    "a file is where a folder belongs, or a folder where a file does",
    "move it away and run again",
)
DISK = {
    **dict.fromkeys((errno.ENOSPC, errno.EDQUOT, errno.EFBIG), FULL),
    **dict.fromkeys((errno.EACCES, errno.EPERM, errno.EROFS), FORBIDDEN),
    **dict.fromkeys((errno.EEXIST, errno.ENOTDIR, errno.EISDIR), IN_THE_WAY),
}


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
        if error.errno not in DISK:
            raise
        what, fix = DISK[error.errno]
        name = error.filename
        place = printable(Path(name) if isinstance(name, str) else name or "the disk")
        say(HostError(f"{place}: {what}", fix))
        return HostError.exit_code
    return 0


def print_last(line: object) -> None:
    """Print the last line on stderr, after what is still buffered for stdout."""
    with suppress(OSError, ValueError):  # a closed pipe, or none
        sys.stdout.flush()
    print(line, file=sys.stderr)
