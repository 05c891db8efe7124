"""The faults of one file, collected so that they are reported together."""

from __future__ import annotations

from collections import defaultdict
from pathlib import Path

from stages.core.errors import DataError, printable

SHOWN = 5  # places of one kind of fault, and
KINDS = 20  # kinds of fault that one message names


class Faults:
    """Collects the faults of one file, so that they are reported together.

    Each kind becomes one message with its count and its first line numbers.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.lines: dict[tuple[str, str], list[str]] = defaultdict(list)

    def add(self, place: object, what: str, fix: str) -> None:
        """Note that `what` is wrong at `place`, a line number or a pair of them."""
        self.lines[what, fix].append(str(place))

    def check(self) -> None:
        """End the reading if anything was noted.

        Raises:
            DataError: with one message for each kind of fault.
        """
        if self.lines:
            kinds = [
                (f"{printable(self.path)}: {_places(p)}: {what}", fix)
                for (what, fix), p in self.lines.items()
            ]
            more = len(kinds) - KINDS
            rest = [
                (f"{printable(self.path)}: {more} more faults like these", "correct these first")
            ]
            raise DataError.from_faults(kinds[:KINDS] + (rest if more > 0 else []))


def _places(places: list[str]) -> str:
    shown = ", ".join(places[:SHOWN])
    more = len(places) - SHOWN
    word = "line" if len(places) == 1 else "lines"
    return f"{word} {shown}" + (f" and {more} more" if more > 0 else "")
