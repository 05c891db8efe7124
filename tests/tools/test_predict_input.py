"""The texts that `bert-lora predict` reads: verbatim, and each unreadable one is named."""

from __future__ import annotations

import io
import json
import os
from pathlib import Path

import pytest

from stages.core.errors import DataError
from stages.tools import predict_input
from stages.tools.predict_input import text_blocks


def read_texts(arguments: tuple[str, ...], file: Path | None, column: str) -> list[str]:
    return [text for block in text_blocks(arguments, file, column) for text in block]


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


def test_a_large_file_comes_in_blocks_that_are_checked_one_by_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(predict_input, "FILE_ROWS", 3)
    file = tmp_path / "mine.csv"
    file.write_text("text;id\n" + "a;1\n" * 5 + ";2\nb;3\n;4\n", encoding="utf-8")
    blocks = text_blocks((), file, "text")
    assert next(blocks) == ["a", "a", "a"]
    assert capsys.readouterr().err == f"read: {file} (csv separated by semicolons, UTF-8)\n"
    with pytest.raises(DataError, match=r"mine.csv: line 7: empty text"):
        next(blocks)
    monkeypatch.setattr(predict_input, "FILE_CHARACTERS", 2)
    assert next(text_blocks((), file, "text")) == ["a", "a"]


def test_lines_are_answered_before_their_writer_is_done(monkeypatch: pytest.MonkeyPatch) -> None:
    reader, writer = os.pipe()
    monkeypatch.setattr("sys.stdin", os.fdopen(reader))
    os.write(writer, b"a\n" * predict_input.LINES)
    blocks = text_blocks((), None, "text")
    assert next(blocks) == ["a"] * predict_input.LINES
    os.write(writer, b"b")
    os.close(writer)
    assert list(blocks) == [["b"]]


@pytest.mark.parametrize("ending", ["jsonl", "json"])
def test_a_field_that_no_row_has_is_named_once(
    tmp_path: Path, ending: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / f"mine.{ending}"
    rows = [json.dumps({"data": {"text": f"text {n}"}}) for n in range(9)]
    file.write_text("\n".join(rows), encoding="utf-8")
    for size in (4, 100):
        monkeypatch.setattr(predict_input, "FILE_ROWS", size)
        with pytest.raises(DataError, match=r"no column text, did you mean data\.text\?"):
            read_texts((), file, "text")
    assert read_texts((), file, "data.text") == [f"text {n}" for n in range(9)]


def test_a_pattern_names_several_files(tmp_path: Path) -> None:
    (tmp_path / "b.tsv").write_text("text\nb\n", encoding="utf-8")
    (tmp_path / "a.CSV").write_text("text\na\n", encoding="utf-8")
    assert read_texts((), tmp_path / "*.*", "text") == ["a", "b"]
    with pytest.raises(DataError, match="no such file"):
        read_texts((), tmp_path / "*.json", "text")


def test_a_value_that_is_no_text_is_named(tmp_path: Path) -> None:
    file = tmp_path / "mine.jsonl"
    file.write_text('{"text": 5}\n{"text": ["a"]}\n', encoding="utf-8")
    with pytest.raises(DataError, match=r"line 2: the text \['a'\] is a list"):
        read_texts((), file, "text")
