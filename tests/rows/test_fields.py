"""Nested fields: the exports of annotation tools, in JSON and in Parquet."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from stages.core.errors import DataError
from stages.rows.reading import Faults
from stages.rows.reading import MISSING, field_of
from stages.rows.reading import open_table

LABEL_STUDIO = [
    {
        "id": number,
        "data": {"text": f"text {number}"},
        "annotations": [{"result": [{"value": {"choices": [label]}, "from_name": "sentiment"}]}],
    }
    for number, label in enumerate(["pos", "neg"])
]
ARGILLA = [
    {"fields": {"text": f"text {n}"}, "responses": {"label": [{"value": v, "user_id": "u"}]}}
    for n, v in enumerate(["pos", "neg"])
]
DOCCANO = [{"id": n, "text": f"text {n}", "label": [v]} for n, v in enumerate(["pos", "neg"])]
FLAT = [{"data.text": f"text {n}", "label.responses": v} for n, v in enumerate(["pos", "neg"])]
CHOICE = "annotations.0.result.0.value.choices.0"


def write(rows: list[dict[str, Any]], path: Path) -> Path:
    if path.suffix == ".parquet":
        pq.write_table(pa.Table.from_pylist(rows), path)
    elif path.suffix == ".json":
        path.write_text(json.dumps(rows), encoding="utf-8")
    else:
        path.write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
    return path


def cells(path: Path, *names: str) -> list[list[Any]]:
    faults = Faults(path)
    rows = [row for _, row in open_table(path, list(names), faults).rows]
    faults.check()
    return rows


@pytest.mark.parametrize("ending", ["json", "jsonl", "parquet"])
@pytest.mark.parametrize(
    ("rows", "text", "label", "found"),
    [
        (LABEL_STUDIO, "data.text", CHOICE, ["pos", "neg"]),
        (LABEL_STUDIO, "data.text", CHOICE[:-2], [["pos"], ["neg"]]),
        (ARGILLA, "fields.text", "responses.label.0.value", ["pos", "neg"]),
        (DOCCANO, "text", "label", [["pos"], ["neg"]]),
        (DOCCANO, "text", "label.0", ["pos", "neg"]),
        (FLAT, "data.text", "label.responses", ["pos", "neg"]),
    ],
)
def test_a_field_is_named_by_dots(
    tmp_path: Path, ending: str, rows: list[dict[str, Any]], text: str, label: str, found: list[Any]
) -> None:
    path = write(rows, tmp_path / f"m.{ending}")
    assert cells(path, text, label) == [["text 0", found[0]], ["text 1", found[1]]]


@pytest.mark.parametrize("ending", ["json", "jsonl", "parquet"])
@pytest.mark.parametrize("name", ["text", "data.txt", "annotations.1x", "data.text.0"])
def test_a_field_that_is_not_there_is_guessed(tmp_path: Path, ending: str, name: str) -> None:
    with pytest.raises(DataError) as caught:
        cells(write(LABEL_STUDIO, tmp_path / f"m.{ending}"), name)
    assert f"line 1: no column {name}" in str(caught.value)
    assert "data.text" in str(caught.value).partition("Fix: ")[2]
    if name in ("text", "data.txt"):
        assert f"no column {name}, did you mean data.text?" in str(caught.value)


@pytest.mark.parametrize("ending", ["json", "jsonl", "parquet"])
def test_a_row_without_annotations_has_no_label(tmp_path: Path, ending: str) -> None:
    rows = [LABEL_STUDIO[0], {**LABEL_STUDIO[1], "annotations": []}]
    path = write(rows, tmp_path / f"m.{ending}")
    assert cells(path, "data.text", CHOICE) == [["text 0", "pos"], ["text 1", None]]


@pytest.mark.parametrize(
    ("value", "name", "expected"),
    [
        ({"a": {"b": 1}, "a.b": 2}, "a.b", 2),
        ({"a": {"b.c": 1}}, "a.b.c", 1),
        ({"a.b": [{"c": 1}]}, "a.b.0.c", 1),
        ({"a": [[1, 2]]}, "a.0.1", 2),
        ({"a": {"0": 1}}, "a.0", 1),
        ({"a": [1]}, "a.1", None),
        ({"a": None}, "a.b", None),
        ({"a": [1]}, "a.b", MISSING),
        ({"a": 1}, "a.b", MISSING),
        ({"a": [1]}, "a.-1", MISSING),
        ({"a": [1]}, "a.", MISSING),
    ],
)
def test_the_rule_of_the_dots(value: Any, name: str, expected: Any) -> None:
    assert field_of(value, name) is expected or field_of(value, name) == expected
