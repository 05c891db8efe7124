"""Faults of one file: reported together, and in a short message."""

from __future__ import annotations

from pathlib import Path

import pytest

from stages.core.errors import DataError
from stages.rows.reading import Faults


def message(faults: Faults) -> str:
    with pytest.raises(DataError) as caught:
        faults.check()
    return str(caught.value)


def test_without_a_fault_the_reading_continues() -> None:
    Faults(Path("mine.csv")).check()


def test_places_of_one_kind_are_one_message_that_names_five() -> None:
    faults = Faults(Path("mine.csv"))
    for line in range(2, 9):
        faults.add(line, "no label", "fill it in")
    faults.add(3, "empty text", "fill it in")
    assert message(faults).split("\n") == [
        "error: mine.csv: lines 2, 3, 4, 5, 6 and 2 more: no label. Fix: fill it in",
        "error: mine.csv: line 3: empty text. Fix: fill it in",
    ]


def test_many_kinds_of_fault_stay_a_short_message() -> None:
    faults = Faults(Path("mine.csv"))
    for line in range(500):
        faults.add(line, f"label {line} has spaces around it", "remove them")
    lines = message(faults).split("\n")
    assert len(lines) == 21
    assert lines[-1].startswith("error: mine.csv: 480 more faults like these. Fix: ")


def test_control_characters_of_a_path_do_not_reach_the_terminal() -> None:
    faults = Faults(Path("mine\x1b[2J.csv"))
    faults.add(1, "no label", "fill it in")
    assert "\x1b" not in message(faults)
