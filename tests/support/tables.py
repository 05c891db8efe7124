"""Tables of texts and labels in the current folder, and what stage prepare makes of them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from stages.core import paths
from stages.core.errors import DataError
from stages.prepare import prepare
from stages.rows.prepared import SPLITS
from tests.support.tiny import params_for

OUTPUTS = [*SPLITS.values(), paths.LABELS]
Rows = list[tuple[str, Any]]


def table(rows: Rows, path: str = "mine.csv") -> Path:
    """Write the rows in the format that the ending of the path names."""
    file = Path(path)
    file.parent.mkdir(exist_ok=True)
    frame = pd.DataFrame(rows, columns=["text", "label"])
    if file.suffix == ".jsonl":
        frame.to_json(file, orient="records", lines=True)
    elif file.suffix == ".parquet":
        frame.to_parquet(file)
    else:
        frame.to_csv(file, index=False)
    return file


def official(**splits: Rows) -> Path:
    """Write one file for each split, and return their folder."""
    for name, rows in splits.items():
        table(rows, f"mine/{name}.csv")
    return Path("mine")


def summary() -> dict[str, Any]:
    """Return the content of metrics/data.json."""
    content: dict[str, Any] = json.loads(paths.DATA_SUMMARY.read_text(encoding="utf-8"))
    return content


def sizes(source: Path, **changes: Any) -> tuple[int, int, int]:
    """Prepare the source, and return the rows of train, validation and test."""
    prepare(params_for(source, **changes))
    counts = summary()
    return counts["rows_train"], counts["rows_validation"], counts["rows_test"]


def assert_not_prepared(source: Path, **changes: Any) -> str:
    """Check that prepare refuses the source and writes nothing; return the message."""
    with pytest.raises(DataError) as caught:
        prepare(params_for(source, **changes))
    assert not [path for path in OUTPUTS if path.exists()]
    assert not Path("metrics/data.json").exists()
    assert "Fix: " in str(caught.value)
    return str(caught.value)
