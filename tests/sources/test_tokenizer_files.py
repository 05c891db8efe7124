"""`model_max_length` is a number of tokens, however it is written."""

from __future__ import annotations

from typing import Any

import pytest

from stages.sources.tokenizer_files import max_length_of


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (512, 512),
        ("512", 512),
        (" 512 ", 512),
        (512.0, 512),
        (20.5, 20),
        ("1e3", 1000),
        (1e30, int(1e30)),
        (float("inf"), int(1e30)),
        (0, None),
        (-1, None),
        (None, None),
    ],
)
def test_the_length_is_understood(value: Any, expected: int | None) -> None:
    assert max_length_of({"model_max_length": value}) == expected


def test_no_length_is_no_limit() -> None:
    assert max_length_of({}) is None


@pytest.mark.parametrize("value", ["long", "", [512], {"a": 1}, True, float("nan")])
def test_what_is_no_number_is_named(value: Any) -> None:
    with pytest.raises(ValueError, match="expected a number of tokens, got"):
        max_length_of({"model_max_length": value})
