"""The texts that `bert-lora predict` is given: arguments, standard input or a file, all checked."""

from __future__ import annotations

import sys
from pathlib import Path

from stages.core.errors import DataError, printable
from stages.rows.faults import Faults


def read_texts(arguments: tuple[str, ...], file: Path | None, text_column: str) -> list[str]:
    """Return the texts of the file, standard input or the arguments, verbatim.

    Args:
        arguments: the texts; none of them, or "-" alone, is standard input.
        file: a table to read instead, or None.
        text_column: its column with the text.

    Raises:
        DataError: naming every empty or unreadable text by its line or number.
    """
    if file:
        return _from_file(file, text_column)
    if arguments in ((), ("-",)):
        return _from_standard_input()
    checked = [(number, _fault(text)) for number, text in enumerate(arguments, start=1)]
    faults = [(f"text {number}: {fault[0]}", fault[1]) for number, fault in checked if fault]
    if faults:
        raise DataError.from_faults(faults)
    return list(arguments)


def _from_file(file: Path, column: str) -> list[str]:
    from stages.rows.tables import ENDINGS, read_table  # pandas is imported for a file alone

    if not file.is_file():
        raise DataError(f"{printable(file, 200)}: no such file", "check the name after --file")
    if file.suffix not in ENDINGS:
        raise DataError(
            f"{printable(file, 200)}: unknown ending",
            f"use one of {' '.join(ENDINGS)}; for plain lines: bert-lora predict < FILE",
        )
    frame = read_table(file, column)
    return _checked(file, [text or "" for text in frame["text"]], frame["line"].tolist())


def _from_standard_input() -> list[str]:
    if sys.stdin.isatty():
        print("one text a line; Ctrl-D ends", file=sys.stderr)
    # What is not UTF-8 becomes a surrogate, which _fault finds: so every such line is named.
    content = sys.stdin.buffer.read().decode("utf-8-sig", "surrogateescape")
    texts = [line.removesuffix("\r") for line in content.removesuffix("\n").split("\n")]
    return _checked(Path("standard input"), texts, list(range(1, len(texts) + 1)))


def _checked(name: Path, texts: list[str], lines: list[int]) -> list[str]:
    faults = Faults(name)
    for line, text in zip(lines, texts, strict=True):
        if fault := _fault(text):
            faults.add(line, *fault)
    faults.check()
    return texts


def _fault(text: str) -> tuple[str, str] | None:
    """Return what is wrong with a text and the remedy, or None."""
    if not text.strip():
        return "empty text", "fill it in or leave it out"
    if "\x00" in text:
        return "holds a NUL character", "remove it; the input may be binary"
    if any("\ud800" <= c <= "\udfff" for c in text):
        return "not UTF-8", "give the text as UTF-8"
    return None
