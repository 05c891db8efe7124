"""Labels at the edge of what may be one."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from stages.core.errors import DataError
from stages.prepare import prepare
from tests.support.tiny import params_for

ROOT = Path(__file__).parents[2]
Rows = list[tuple[str, Any]]
TWO: Rows = [(f"text {number}", "pos" if number % 2 else "neg") for number in range(60)]


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def table(rows: Rows, path: str = "mine.csv") -> Path:
    file = Path(path)
    file.parent.mkdir(exist_ok=True)
    pd.DataFrame(rows, columns=["text", "label"]).to_csv(file, index=False)
    return file


def sizes(source: Path, **changes: Any) -> tuple[int, int, int]:
    prepare(params_for(source, **changes))
    counts = json.loads(Path("metrics/data.json").read_text(encoding="utf-8"))
    return counts["rows_train"], counts["rows_validation"], counts["rows_test"]


def refused(source: Path, **changes: Any) -> str:
    with pytest.raises(DataError) as caught:
        prepare(params_for(source, **changes))
    assert not Path("metrics/data.json").exists()
    return str(caught.value)


def test_labels_that_look_like_integers_are_just_labels() -> None:
    assert sum(sizes(table([(f"text {n}", ("-1", "--1")[n % 2]) for n in range(60)]))) == 60


@pytest.mark.parametrize("label", ["\\ud800", "a\\u0000"])
def test_a_label_that_cannot_be_written_is_refused(label: str) -> None:
    lines = [f'{{"text": "t{n}", "label": "{("ok", label)[n % 2]}"}}' for n in range(60)]
    Path("mine.jsonl").write_text("\n".join(lines), encoding="utf-8")
    fault = refused(Path("mine.jsonl"))
    assert "mine.jsonl: lines 2, 4, 6, 8, 10 and 25 more: the label holds" in fault


def test_bytes_are_no_label() -> None:
    frame = pd.DataFrame({"text": [f"t{n}" for n in range(60)], "label": [b"a", b"b"] * 30})
    frame.to_parquet("mine.parquet")
    assert "neither a string nor an integer" in refused(Path("mine.parquet"))
