"""The record of exports: one entry a kind, read for the adapter that it belongs to."""

from __future__ import annotations

import json
from typing import Any

import pytest

from stages.core import paths
from stages.core.errors import DataError
from stages.reporting.export_records import KEYS, exports_of, record_export

ADAPTER = {"adapter_model.safetensors": "aa"}
CHECK: dict[str, Any] = {key: number for number, key in enumerate(KEYS)}

pytestmark = pytest.mark.usefixtures("project")


def test_an_export_is_recorded_in_place_of_the_last_one_of_its_kind() -> None:
    record_export("onnx fp32", ADAPTER, CHECK)
    record_export("onnx int8", ADAPTER, CHECK | {"flipped": 7})
    record_export("onnx fp32", ADAPTER, CHECK | {"flipped": 9})
    found = exports_of(ADAPTER)
    assert {name: check["flipped"] for name, check in found.items()} == {
        "onnx fp32": 9,
        "onnx int8": 7,
    }


def test_exports_of_another_adapter_are_not_shown() -> None:
    record_export("merged fp32", ADAPTER, CHECK)
    assert exports_of({"adapter_model.safetensors": "bb"}) == {}


def test_without_a_record_there_are_none() -> None:
    paths.EXPORTS.unlink(missing_ok=True)
    assert exports_of(ADAPTER) == {}


@pytest.mark.parametrize(
    ("content", "what"),
    [
        ("[", "not valid JSON"),
        ("[]", "is no record of exports"),
        ('{"onnx fp32": 3}', "is no record of exports"),
        ('{"onnx fp32": {"adapter": {}, "check": 3}}', "is no record of exports"),
        (json.dumps({"onnx fp32": {"check": CHECK}}), "lacks adapter"),
        (json.dumps({"onnx fp32": {"adapter": {}, "check": {"rows": 3}}}), "lacks accuracy"),
    ],
)
def test_a_damaged_record_is_refused(content: str, what: str) -> None:
    paths.EXPORTS.write_text(content, encoding="utf-8")
    with pytest.raises(DataError, match=what) as caught:
        exports_of(ADAPTER)
    assert "git checkout metrics/exports.json" in str(caught.value)
