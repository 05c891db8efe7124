"""The answers of `bert-lora predict --output` so far, from which a stopped run goes on.

They are kept beside the output, as NAME.part: a header that says what they were made by, then one
JSON line for each row. Written to its own name is only a complete output.
"""

from __future__ import annotations

import fcntl
import json
import sys
from collections.abc import Iterator
from contextlib import suppress
from itertools import chain, count, islice
from pathlib import Path
from typing import Any

from stages.core.errors import HostError, ParamsError, printable
from stages.tools.predict_output import Row, json_line

SMALLEST, LARGEST = 16, 1024  # rows of a chunk: the first answers come at once, then full speed


def chunk_sizes() -> Iterator[int]:
    """Yield the rows of one chunk after the other, the same for every run."""
    for doubled in count():
        yield min(SMALLEST << min(doubled, 20), LARGEST)


class Part:
    """The file of the answers so far, of which one run at a time has hold.

    Rows are taken up in whole chunks: those of a chunk are computed together, so a run that was
    stopped ends in the same bytes as one that was not.

    Args:
        output: the file that is to be written.
        made_by: what the answers depend on besides the texts: model and options.

    Raises:
        HostError: if another run is writing it.
        ParamsError: if it was made by something else.
    """

    def __init__(self, output: Path, made_by: dict[str, Any]) -> None:
        self.path = output.with_name(f"{output.name}.part")
        self.header = json.dumps({"made_by": made_by}, sort_keys=True) + "\n"
        self.file = self.path.open("a+b")
        self.rows = 0
        try:
            fcntl.flock(self.file, fcntl.LOCK_EX | fcntl.LOCK_NB)  # gone with the process
        except BlockingIOError:
            raise HostError(
                f"{printable(self.path)}: another run is writing it", "wait for it, or stop it"
            ) from None
        self.file.seek(0)
        there = self.file.readline()
        if not there.endswith(b"\n"):  # nothing, or a header that was cut off
            self.file.truncate(0)
            self.file.write(self.header.encode())
            self.file.flush()
        elif there.decode(errors="replace") != self.header:
            raise ParamsError(
                f"{printable(self.path)}: was begun with {_difference(there, made_by)}",
                f"give what it was begun with, or start anew: rm {printable(self.path)}",
            )

    def take_up(self, texts: Iterator[str]) -> Iterator[str]:
        """Return the texts that are still to be answered; drop what is no whole chunk.

        Raises:
            ParamsError: if the answers are those to other texts.
        """
        self.file.seek(len(self.header.encode()))
        for size in chunk_sizes():
            start = self.file.tell()
            chunk = list(islice(texts, size))
            answered = [self._row() for _ in chunk]
            for text, row in zip(chunk, answered, strict=True):
                self.rows += 1
                if row is None:
                    break
                if row.get("text") != text:
                    raise self._other(f"row {self.rows} is the answer to another text")
            if None in answered:
                self.rows -= answered.index(None) + 1
                self.file.truncate(start)
                texts = chain(chunk, texts)
                break
            if len(chunk) < size:
                if self.file.read(1):
                    raise self._other(f"has more rows than the {self.rows:,} of this input")
                break
        if self.rows:
            print(f"{printable(self.path)}: going on after {self.rows:,} rows", file=sys.stderr)
        return texts

    def add(self, rows: list[Row]) -> None:
        """Append the answers of a chunk."""
        self.file.write("".join(map(json_line, rows)).encode())
        self.file.flush()
        self.rows += len(rows)

    def answers(self) -> Iterator[Row]:
        """Yield all rows."""
        self.file.seek(len(self.header.encode()))
        for line in self.file:
            yield json.loads(line)

    def close(self, done: bool) -> None:
        """Let go of the file, and delete it if the output is written or no row is in it."""
        if done or not self.rows:
            self.path.unlink(missing_ok=True)
        else:
            what = f"{printable(self.path)}: {self.rows:,} rows are kept"
            print(f"{what}; the same command goes on from there", file=sys.stderr)
        self.file.close()

    def _row(self) -> dict[str, Any] | None:
        line = self.file.readline()
        with suppress(ValueError):  # the machine stopped while it was written
            row = json.loads(line) if line.endswith(b"\n") else None
            return row if isinstance(row, dict) else None
        return None

    def _other(self, what: str) -> ParamsError:
        path = printable(self.path)
        return ParamsError(
            f"{path}: {what}", f"give the input that it was begun with, or start anew: rm {path}"
        )


def _difference(header: bytes, made_by: dict[str, Any]) -> str:
    """Return in what the header differs, for a person."""
    with suppress(ValueError, KeyError, TypeError, AttributeError):
        before = json.loads(header)["made_by"]
        names = [name for name in made_by if before.get(name) != made_by[name]]
        if names:
            return f"another {' and '.join(names)}"
    return "something else, or is no such file"
