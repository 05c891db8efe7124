"""The summary of the prepared rows: what it counts, and its lines for a person."""

from __future__ import annotations

import pandas as pd
import pytest

from stages.rows.summary import COUNTS, describe, summarise

SPLITS = {
    "train": pd.DataFrame({"text": ["one, two", "three", "!"], "label": ["a", "b", "a"]}),
    "validation": pd.DataFrame({"text": ["four five six"], "label": ["a"]}),
    "test": pd.DataFrame({"text": ["seven"], "label": ["b"]}),
}
NONE_LEFT_OUT = {f"rows_{name}": 0 for name in COUNTS}


def test_rows_shares_and_lengths_are_counted() -> None:
    summary = summarise(SPLITS, ["a", "b"], max_length=5)
    assert [summary[f"rows_{name}"] for name in SPLITS] == [3, 1, 1]
    assert summary["share"]["train"] == pytest.approx({"a": 2 / 3, "b": 1 / 3})
    assert summary["share"]["test"] == {"a": 0, "b": 1}
    assert summary["classes"] == 2
    # Pieces of the texts, punctuation included: 3, 1, 1, 3, 1.
    assert (summary["words_mean"], summary["words_median"], summary["words_max"]) == (1.8, 1, 3)
    assert summary["characters_max"] == len("four five six")


@pytest.mark.parametrize(("max_length", "truncated"), [(5, 0), (4, 2), (3, 2), (2, 5)])
def test_two_special_tokens_are_added_before_texts_count_as_truncated(
    max_length: int, truncated: int
) -> None:
    assert summarise(SPLITS, ["a", "b"], max_length)["rows_truncated_at_least"] == truncated


def test_the_lines_name_only_what_was_left_out() -> None:
    summary = summarise(SPLITS, ["a", "b"], max_length=5)
    assert describe(summary | NONE_LEFT_OUT).splitlines() == [
        "rows: 3 train, 1 validation, 1 test",
        "classes in train: a 66.7 %, b 33.3 %",
    ]
    counts = {"rows_source": 1007, "rows_leaked": 2, "rows_not_sampled": 1000}
    lines = describe(summary | NONE_LEFT_OUT | counts | {"rows_truncated_at_least": 1}).splitlines()
    assert lines[2:] == [
        "left out of 1,007 rows: 2 leaked, 1,000 not sampled",
        "at least 1 rows exceed data.max_length",
    ]
