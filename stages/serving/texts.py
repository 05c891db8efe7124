"""What a text must be to be classified, wherever it comes from. No heavy import in here."""

from __future__ import annotations


def fault_of(
    text: str, surrogate: str = "holds half of a surrogate pair"
) -> tuple[str, str] | None:
    """Return what is wrong with a text and the remedy, or None.

    Args:
        text: as it was given.
        surrogate: what a surrogate in it means, which depends on how the text was read.
    """
    if not text.strip():
        return "empty text", "fill it in or leave it out"
    if "\x00" in text:
        return "holds a NUL character", "remove it; the input may be binary"
    if not text.isascii() and any("\ud800" <= c <= "\udfff" for c in text):
        return surrogate, "give the text as UTF-8"
    return None
