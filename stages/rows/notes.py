"""What is allowed in the data but rarely meant, each in one line for a person."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from typing import TYPE_CHECKING

from stages.core.errors import printable
from stages.rows.faults import SHOWN

if TYPE_CHECKING:  # heavy libraries are imported once the params have been checked
    import pandas as pd

HTML = re.compile(
    r"&(?:amp|lt|gt|quot|apos|nbsp|#[0-9]{1,7}|#x[0-9a-fA-F]{1,6});"
    r"|</?(?:a|b|br|div|em|font|h[1-6]|i|img|li|p|pre|span|strong|table|td|tr|u|ul)(?:\s[^<>]*)?/?>",
    re.IGNORECASE,
)
NUMBER = re.compile(r"[-+]?[0-9]+(?:[.,][0-9]+)?")
MANY = 0.05  # share of the texts with html from which it is no chance
FEW_ROWS = 10  # of a class
# The exact McNemar test needs six changed rows, all for the better, for p < 0.05 (2 / 2^6): ten
# points of fewer than 60 rows are less.
FEWEST_TEST_ROWS = 60


def notes(splits: dict[str, pd.DataFrame], labels: list[str], repeated: int) -> list[str]:
    """Return the notes on the prepared rows.

    Args:
        splits: the rows by split, with the columns text and label, and group where there is one.
        labels: the classes.
        repeated: how many rows were left out since their text is that of another row.
    """
    found = [*_on_texts([text for part in splits.values() for text in part["text"]], repeated)]
    found += _on_labels(Counter(label for part in splits.values() for label in part["label"]))
    groups = [part["group"].is_unique for part in splits.values() if "group" in part]
    if groups and all(groups):
        found.append("data.group_column: each row has a group of its own, so it changes nothing")
    twins = _twins(labels)
    if twins:
        found.append(f"classes that differ in spaces or signs alone: {_shown(twins)}")
    rows = len(splits["test"])
    if rows < FEWEST_TEST_ROWS:
        found.append(
            f"the test set of {rows} rows is too small to show a gain of ten points "
            f"(p below 0.05 takes {FEWEST_TEST_ROWS} rows or more): give more rows, or raise "
            "data.test_fraction"
        )
    return [f"note: {note}" for note in found]


def _on_texts(texts: list[str], repeated: int) -> Iterator[str]:
    with_html = [found[0] for text in texts if (found := HTML.search(text))]
    if len(with_html) > MANY * len(texts):
        yield (
            f"{100 * len(with_html) / len(texts):.0f} % of the texts hold html, such as "
            f"{printable(with_html[0], 40)}; they are read as they are"
        )
    numbers = sum(bool(NUMBER.fullmatch(text.strip())) for text in texts)
    if numbers > len(texts) / 2:
        yield f"{numbers:,} of {len(texts):,} texts are numbers: is data.text_column the right one?"
    if repeated > len(texts):
        yield (
            f"{repeated:,} rows repeat the text of another, {len(texts):,} do not: "
            "is data.text_column the right one?"
        )


def _on_labels(counted: Counter[str]) -> Iterator[str]:
    rare = [f"{printable(label)} ({rows})" for label, rows in counted.items() if rows < FEW_ROWS]
    if rare:
        yield f"classes with fewer than {FEW_ROWS} rows: {_shown(sorted(rare))}"


def _twins(labels: list[str]) -> list[str]:
    """Return the pairs of classes that are the same letters and digits."""
    first: dict[str, str] = {}
    pairs = []
    for label in labels:
        letters = "".join(c for c in label.casefold() if c.isalnum())
        if letters and letters in first:
            pairs.append(f"{printable(repr(first[letters]))} and {printable(repr(label))}")
        first.setdefault(letters, label)
    return pairs


def _shown(names: list[str]) -> str:
    more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
    return ", ".join(names[:SHOWN]) + more
