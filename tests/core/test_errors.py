"""Messages: each fault is one line that shows no control character of what it quotes."""

from __future__ import annotations

import unicodedata
from pathlib import Path

import pytest

from stages.core.errors import (
    DataError,
    HostError,
    ModelError,
    NumericsError,
    ParamsError,
    UserError,
    printable,
)

HOSTILE = {
    "\x1b[2J": "\\x1b[2J",
    "\r": "\\r",
    "\n[ERROR] fake": "\\n[ERROR] fake",
    "\a": "\\x07",
    "\0": "\\x00",
    "\x9b2J": "\\x9b2J",
    "\u202e": "\\u202e",
    "\u2028": "\\u2028",
    "\u00a0": "\\xa0",
    "\u200b": "\\u200b",
    "\ud800": "\\ud800",
    "\U000e0001": "\\U000e0001",
}


@pytest.mark.parametrize(("character", "shown"), HOSTILE.items())
def test_what_moves_a_cursor_or_hides_is_spelt_out(character: str, shown: str) -> None:
    assert printable(f"a{character}b") == f"a{shown}b"


@pytest.mark.parametrize("text", ["plain", "two words", "Grüße, 世界 😀", "'quoted' \\ slash", ""])
def test_what_can_be_read_stays(text: str) -> None:
    assert printable(text) == text


def test_a_value_that_is_no_string_is_shown_as_one() -> None:
    assert printable(1.5) == "1.5"
    assert printable(None) == "None"


def test_long_text_is_cut() -> None:
    assert printable("x" * 80) == "x" * 80
    assert printable("x" * 81) == "x" * 77 + "..."
    assert printable("x" * 81, limit=100) == "x" * 81
    assert len(printable("\U000e0001" * 10**6)) <= 80 * 10


def test_a_path_is_not_cut_before_its_name() -> None:
    path = Path("folder" * 40) / "mine.csv"
    assert printable(path) == str(path)
    assert len(printable(Path("x" * 5000))) == 1000


def test_a_message_says_what_and_how_to_fix_it() -> None:
    assert str(UserError("a: wrong", "correct it")) == "error: a: wrong. Fix: correct it"
    assert str(UserError("a: wrong, did you mean b?", "use b")) == (
        "error: a: wrong, did you mean b? Fix: use b"
    )


def test_a_message_is_safe_even_where_its_maker_forgot_to_escape() -> None:
    text = str(UserError("a\nb\x1b[2J\u202e", "c\r\ud800"))
    assert text == "error: a\\nb\\x1b[2J\\u202e. Fix: c\\r\\ud800"
    assert all(unicodedata.category(c)[0] != "C" for c in text)


def test_several_faults_are_several_lines() -> None:
    error = DataError.from_faults([("a: wrong", "correct a"), ("b: wrong", "correct b")])
    assert str(error) == "error: a: wrong. Fix: correct a\nerror: b: wrong. Fix: correct b"
    assert isinstance(error, DataError)
    assert error.faults == [("a: wrong", "correct a"), ("b: wrong", "correct b")]


def test_no_fault_is_no_error() -> None:
    with pytest.raises(ValueError, match="no faults"):
        UserError.from_faults([])


def test_each_kind_has_its_exit_code() -> None:
    kinds = (ParamsError, DataError, ModelError, HostError, NumericsError)
    assert [kind.exit_code for kind in kinds] == [2, 3, 4, 5, 6]
    assert all(issubclass(kind, UserError) for kind in kinds)
