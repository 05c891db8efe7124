"""What is wrong with a text."""

from __future__ import annotations

import pytest

from stages.serving.texts import fault_of


@pytest.mark.parametrize(
    ("text", "what"),
    [
        ("", "empty text"),
        (" \t\n\u3000", "empty text"),
        ("a\0", "holds a NUL character"),
        ("a\ud800", "holds half of a surrogate pair"),
    ],
)
def test_a_fault_is_named(text: str, what: str) -> None:
    fault = fault_of(text)
    assert fault is not None
    assert fault[0] == what


@pytest.mark.parametrize("text", ["a", " a ", "😀", "\u202e<b>", "\ufeff."])
def test_any_other_text_is_right(text: str) -> None:
    assert fault_of(text) is None
