"""Messages: each fault is one line that shows no control character of what it quotes."""

from __future__ import annotations

import unicodedata
from pathlib import Path

import pytest

from stages.core.errors import (
    UserError,
    printable,
)

SHOWN = {
    "Grüße, 世界 😀 'quoted' \\ slash": "Grüße, 世界 😀 'quoted' \\ slash",
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


@pytest.mark.parametrize(("text", "shown"), SHOWN.items())
def test_what_moves_a_cursor_or_hides_is_spelt_out(text: str, shown: str) -> None:
    assert printable(f"a{text}b") == f"a{shown}b"
    forgotten = str(UserError(text, text))
    assert all(unicodedata.category(c)[0] != "C" for c in forgotten)


def test_long_text_is_cut_but_not_a_path_before_its_name() -> None:
    assert printable("x" * 80) == "x" * 80
    assert printable("x" * 81) == "x" * 77 + "..."
    assert printable("x" * 81, limit=100) == "x" * 81
    path = Path("folder" * 40) / "mine.csv"
    assert printable(path) == str(path)
    assert len(printable(Path("x" * 5000))) == 1000


def test_a_message_says_what_and_how_to_fix_it() -> None:
    assert str(UserError("a: wrong", "correct it")) == "error: a: wrong. Fix: correct it"
    assert str(UserError("a: wrong, did you mean b?", "use b")) == (
        "error: a: wrong, did you mean b? Fix: use b"
    )
