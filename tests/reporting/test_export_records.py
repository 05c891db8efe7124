"""The record of exports: one entry a kind, read for the adapter that it belongs to."""

import json
from typing import Any

import pytest

from stages.core import paths
from stages.core.errors import DataError
from stages.reporting.records import Check, Record, exports_of, record_export

ADAPTER = {"adapter_model.safetensors": "aa"}
CHECK: dict[str, Any] = {key: number for number, key in enumerate(Check.model_fields)}

pytestmark = pytest.mark.usefixtures("tmp_cwd")


def record(**values: Any) -> Record:
    return Record(adapter=ADAPTER, check=Check.model_validate(CHECK | values))


def test_an_export_is_recorded_in_place_of_the_last_one_of_its_kind() -> None:
    assert exports_of(ADAPTER) == {}
    record_export("onnx fp32", record())
    record_export("onnx int8", record(flipped=7))
    record_export("onnx fp32", record(flipped=9))
    found = exports_of(ADAPTER)
    assert found == {"onnx fp32": CHECK | {"flipped": 9}, "onnx int8": CHECK | {"flipped": 7}}
    assert exports_of({"adapter_model.safetensors": "bb"}) == {}  # of another adapter


@pytest.mark.parametrize(
    ("content", "what"),
    [
        ("[", "Invalid JSON"),
        ("[]", "should be an object"),
        ('{"onnx fp32": 3}', "onnx fp32"),
        ('{"onnx fp32": {"adapter": {}, "check": 3}}', "onnx fp32: check"),
        (json.dumps({"onnx fp32": {"check": CHECK}}), "onnx fp32: adapter: Field required"),
        ('{"onnx fp32": {"adapter": {}, "check": {"rows": 3}}}', "check: largest_difference"),
    ],
)
def test_a_damaged_record_is_one_line(content: str, what: str) -> None:
    paths.EXPORTS.parent.mkdir()
    paths.EXPORTS.write_text(content, encoding="utf-8")
    with pytest.raises(DataError, match=what) as caught:
        exports_of(ADAPTER)
    assert str(caught.value).startswith("error: metrics/exports.json: ")
    assert "git checkout metrics/exports.json" in str(caught.value)
