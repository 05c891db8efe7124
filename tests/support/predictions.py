"""Predictions of two classes, right or wrong as a test needs them."""

from __future__ import annotations

import pandas as pd


def frame(right: list[bool]) -> pd.DataFrame:
    """Return a row for each entry; its predicted label is right where the entry is true."""
    labels = ["no" if number % 2 else "yes" for number in range(len(right))]
    predicted = [
        label if good else {"no": "yes", "yes": "no"}[label]
        for label, good in zip(labels, right, strict=True)
    ]
    ids = [f"id{number}" for number in range(len(right))]
    return pd.DataFrame({"id": ids, "label": labels, "predicted": predicted})
