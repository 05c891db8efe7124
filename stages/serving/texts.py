"""What a text must be to be classified, wherever it comes from. No heavy import in here."""

from __future__ import annotations


def fault_of(text: str) -> tuple[str, str] | None:
    """Return what is wrong with a text and the remedy, or None."""
    if not text.strip():
        return "empty text", "fill it in or leave it out"
    if "\x00" in text:
        return "holds a NUL character", "remove it; the input may be binary"
    if any("\ud800" <= c <= "\udfff" for c in text):
        return "holds half of a surrogate pair", "give the text as UTF-8"
    return None
