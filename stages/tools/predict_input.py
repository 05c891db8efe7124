"""The texts that `bert-lora predict` is given: arguments, standard input or a file, as a stream.

They come in blocks, each checked as a whole before it is handed on, so that the faults of a file of
usual size are reported together and before a model is loaded, and a larger one fits into memory.
"""

from __future__ import annotations

import glob
import sys
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

from stages.core.errors import DataError, printable
from stages.rows.reading import Faults
from stages.serving.texts import fault_of

FILE_ROWS = 65_536  # of a block of a file, and
FILE_CHARACTERS = 16_000_000
LINES = 16  # of a block of standard input, whose writer may be slow
NOT_UTF8 = "not UTF-8"  # what a surrogate means in an argument or a line
Checked = tuple[int, str | None, tuple[str, str] | None]  # line, text, fault and remedy


def text_blocks(
    arguments: tuple[str, ...], file: Path | None, text_column: str
) -> Iterator[list[str]]:
    """Yield the texts of the file, standard input or the arguments, verbatim, in blocks.

    Args:
        arguments: the texts; none of them, or "-" alone, is standard input.
        file: a table to read instead, or a pattern of several, or None.
        text_column: its column with the text.

    Raises:
        DataError: naming every empty or unreadable text of a block by its line or number.
    """
    if file:
        for path in _files(file):
            yield from _blocks_of_file(path, text_column)
    elif arguments in ((), ("-",)):
        yield from _blocks(Faults(Path("standard input")), _lines(), LINES)
    else:
        yield _arguments(arguments)


def _arguments(arguments: tuple[str, ...]) -> list[str]:
    checked = [(number, fault_of(text, NOT_UTF8)) for number, text in enumerate(arguments, start=1)]
    faults = [(f"text {number}: {fault[0]}", fault[1]) for number, fault in checked if fault]
    if faults:
        raise DataError.from_faults(faults)
    return list(arguments)


def _files(file: Path) -> list[Path]:
    from stages.sources.locate import ENDINGS, format_of, is_pattern

    files = [file]
    if not file.exists() and is_pattern(str(file)):
        names = glob.glob(str(file), recursive=True)  # noqa: PTH207  # the pattern is absolute
        files = [path for path in sorted(map(Path, names)) if path.is_file()]
    if not files or not files[0].is_file():
        raise DataError(f"{printable(file, 200)}: no such file", "check the name after --file")
    for path in files:
        if format_of(path) is None:
            raise DataError(
                f"{printable(path, 200)}: unknown ending",
                f"use one of {ENDINGS}; for plain lines: bert-lora predict < FILE",
            )
    return files


def _blocks_of_file(file: Path, column: str) -> Iterator[list[str]]:
    from stages.rows.labels import NoValueError, text_of
    from stages.rows.reading import open_table  # pyarrow is imported for a file alone

    faults = Faults(file)
    table = open_table(file, [column], faults)

    def checked() -> Iterator[Checked]:
        for line, (value,) in table.rows:
            try:
                text = text_of(value) or ""
                yield line, text, fault_of(text)
            except NoValueError as error:
                yield line, None, (error.what, error.fix)

    understood = f"read: {printable(file, 200)} ({table.understood})"
    for block in _blocks(faults, checked(), FILE_ROWS, table.check):
        if understood:
            print(understood, file=sys.stderr)
        understood = ""
        yield block


def _lines() -> Iterator[Checked]:
    if sys.stdin.isatty():
        print("one text a line; Ctrl-D ends", file=sys.stderr)
    number = 0
    for number, line in enumerate(sys.stdin.buffer, start=1):
        # What is not UTF-8 becomes a surrogate, which fault_of finds: so every such line is named.
        text = line.decode("utf-8-sig" if number == 1 else "utf-8", "surrogateescape")
        text = text.removesuffix("\n").removesuffix("\r")
        yield number, text, fault_of(text, NOT_UTF8)
    if not number:
        yield 1, "", fault_of("")


def _blocks(
    faults: Faults,
    rows: Iterable[Checked],
    size: int,
    check: Callable[[], None] = lambda: None,
) -> Iterator[list[str]]:
    """Yield the texts, at most `size` at once, each block after the check of all of it.

    `check` goes before the faults: without a column, every text is empty.
    """
    block: list[str] = []
    count = characters = 0
    for line, text, fault in rows:
        count += 1
        if fault:
            faults.add(line, *fault)
        elif text is not None and not faults.lines:
            block.append(text)
            characters += len(text)
        if count >= size or characters >= FILE_CHARACTERS:
            check()
            faults.check()
            yield block
            block, count, characters = [], 0, 0
    faults.check()
    if block:
        yield block
