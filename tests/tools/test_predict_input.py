"""The texts that `bert-lora predict` reads: verbatim, and each unreadable one is named."""

from __future__ import annotations

import io
from pathlib import Path

import pytest

from stages.core.errors import DataError
from stages.tools.predict_input import read_texts


def test_arguments_are_taken_verbatim() -> None:
    assert read_texts((" good ", "-", "bad"), None, "text") == [" good ", "-", "bad"]


def test_every_unreadable_argument_is_named() -> None:
    with pytest.raises(DataError) as caught:
        read_texts(("", "good", "a\x00b", "c\udcff"), None, "text")
    assert [what for what, _ in caught.value.faults] == [
        "text 1: empty text",
        "text 3: holds a NUL character",
        "text 4: not UTF-8",
    ]


def test_lines_of_standard_input_keep_their_spaces_and_lose_their_ends(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(b" good \r\nbad\tw1\n")))
    assert read_texts((), None, "text") == [" good ", "bad\tw1"]


def test_a_file_is_read_by_the_column_of_that_name(tmp_path: Path) -> None:
    file = tmp_path / "mine.csv"
    file.write_text('stars,review\n1,"good, w1"\n2,bad\n', encoding="utf-8")
    assert read_texts((), file, "review") == ["good, w1", "bad"]
    with pytest.raises(DataError, match="text"):
        read_texts((), file, "text")
