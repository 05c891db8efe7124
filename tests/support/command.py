"""Run `bert-lora` inside the test's own process, with its input and output in hand."""

from __future__ import annotations

import io
import json
import sys
from dataclasses import dataclass
from typing import Any

import pytest

from stages.tools import cli


@dataclass
class Result:
    """How a run of the command ended."""

    code: int | str | None
    out: str
    err: str

    @property
    def rows(self) -> list[dict[str, Any]]:
        """Return the JSON lines of standard output."""
        return [json.loads(line) for line in self.out.splitlines()]


class Terminal(io.TextIOWrapper):
    """A terminal with an encoding of its own, whose bytes can be looked at."""

    def __init__(self, encoding: str) -> None:
        self.bytes = io.BytesIO()
        super().__init__(self.bytes, encoding=encoding, write_through=True)

    def isatty(self) -> bool:
        """Return that it is a terminal."""
        return True

    def shown(self) -> str:
        """Return what was written to it."""
        return self.bytes.getvalue().decode("utf-8")


class Command:
    """The command, as a function of its arguments.

    Args:
        capture: pytest's, which reads what the command prints.
    """

    def __init__(self, capture: pytest.CaptureFixture[str]) -> None:
        self.capture = capture

    def __call__(self, *arguments: str, stdin: bytes = b"") -> Result:
        """Run `bert-lora` with the arguments; standard input is not a terminal."""
        before, sys.stdin = sys.stdin, io.TextIOWrapper(io.BytesIO(stdin))
        try:
            with pytest.raises(SystemExit) as ended:
                cli.main(list(arguments))
        finally:
            sys.stdin = before
        printed = self.capture.readouterr()
        return Result(ended.value.code, printed.out, printed.err)
