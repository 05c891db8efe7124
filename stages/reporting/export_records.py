"""The record of exports in metrics/exports.json: how each compares with the adapter.

This module is the only one that writes and reads it.
"""

from __future__ import annotations

from typing import Any

from stages.core import paths
from stages.core.artefacts import read_json, write_json
from stages.core.errors import DataError

# What the report shows of an export; see `stages.serving.export_check.Check`.
KEYS = (
    *("rows", "accuracy", "largest_difference", "flipped", "fixed", "broken", "mcnemar_p"),
    *("rows_per_second", "single_ms", "threads", "bytes"),
)
FIX = f"restore it: git checkout {paths.EXPORTS}; or put {{}} into it and export again"
Checks = dict[str, dict[str, Any]]


def record_export(name: str, adapter: dict[str, str], check: dict[str, Any]) -> None:
    """Record an export in place of the last one of its kind.

    Args:
        name: its format and precision, such as "onnx int8".
        adapter: the sha256 of each file of the adapter that was exported.
        check: KEYS and more: how it compares with the adapter on the test rows.

    Raises:
        DataError: if the record is damaged.
    """
    write_json(paths.EXPORTS, _read() | {name: {"adapter": adapter, "check": check}})


def exports_of(adapter: dict[str, str]) -> Checks:
    """Return the check of each recorded export of this adapter, by format and precision.

    Args:
        adapter: the sha256 of each file of the adapter.

    Raises:
        DataError: if the record is damaged.
    """
    records = _read()
    return {name: one["check"] for name, one in records.items() if one["adapter"] == adapter}


def _read() -> Checks:
    if not paths.EXPORTS.exists():
        return {}
    try:
        content = read_json(paths.EXPORTS)
    except DataError as error:
        raise DataError(error.faults[0][0], FIX) from error
    records = content.values() if isinstance(content, dict) else [None]
    for one in records:
        if not isinstance(one, dict) or not isinstance(one.get("check"), dict):
            raise DataError(f"{paths.EXPORTS}: is no record of exports", FIX)
        if missing := sorted({"adapter", *KEYS} - {*one, *one["check"]}):
            raise DataError(f"{paths.EXPORTS}: lacks {missing[0]}", FIX)
    return dict(content)
