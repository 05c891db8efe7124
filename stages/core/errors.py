"""The mistakes a user can make, each with its exit code and its fix."""

import unicodedata
from collections.abc import Sequence
from pathlib import PurePath

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
