"""Sizes, class shares and lengths of the prepared rows, for metrics/data.json and for a person."""

from __future__ import annotations

import re
from statistics import mean, median
from typing import Any

import pandas as pd

from stages.core.errors import printable
from stages.rows.prepared import SPLITS

# Rows by what became of them; all but the first are left out.
COUNTS = ("source", "neutral", "incomplete", "conflict", "repeated", "leaked", "not_sampled")
PIECE = re.compile(r"\w+|[^\w\s]")


def summarise(
    splits: dict[str, pd.DataFrame], labels: list[str], max_length: int
) -> dict[str, Any]:
    """Return rows and class shares per split, and the lengths of the texts.

    Words and punctuation marks are counted. A word-piece tokenizer makes at least one token of
    each and adds two, so `rows_truncated_at_least` bounds the truncated rows from below.
    """
    texts = [text for part in splits.values() for text in part["text"]]
    pieces = [len(PIECE.findall(text)) for text in texts]
    summary: dict[str, Any] = {f"rows_{name}": len(part) for name, part in splits.items()}
    summary["share"] = {
        name: {label: float((part["label"] == label).mean()) for label in labels}
        for name, part in splits.items()
    }
    return summary | {
        "classes": len(labels),
        "words_mean": round(mean(pieces), 2),
        "words_median": median(pieces),
        "words_max": max(pieces),
        "characters_max": max(map(len, texts)),
        "rows_truncated_at_least": sum(count + 2 > max_length for count in pieces),
    }


def describe(summary: dict[str, Any]) -> str:
    """Return the summary as lines for a person."""
    sizes = ", ".join(f"{summary[f'rows_{name}']:,} {name}" for name in SPLITS)
    shares = ", ".join(
        f"{printable(label)} {100 * share:.1f} %"
        for label, share in summary["share"]["train"].items()
    )
    left_out = ", ".join(
        f"{summary[f'rows_{name}']:,} {name.replace('_', ' ')}"
        for name in COUNTS[1:]
        if summary[f"rows_{name}"]
    )
    lines = [f"rows: {sizes}", f"classes in train: {shares}"]
    if left_out:
        lines.append(f"left out of {summary['rows_source']:,} rows: {left_out}")
    if summary["rows_truncated_at_least"]:
        lines.append(f"at least {summary['rows_truncated_at_least']:,} rows exceed data.max_length")
    return "\n".join(lines)
