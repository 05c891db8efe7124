"""The record of exports in metrics/exports.json: how each compares with the adapter.

This module alone writes and reads it. The report shows it where it is; no stage depends on it, so
that an export leaves the pipeline's state as it is.
"""

from typing import Any

from pydantic import BaseModel, TypeAdapter, ValidationError

from stages.core import paths
from stages.core.artefacts import write_json
from stages.core.errors import DataError, printable


class Check(BaseModel):
    """An exported folder beside the adapter, on the test rows.

    Attributes:
        rows: how many test rows were scored.
        largest_difference: of a logit from the adapter's, over all rows and classes, in batches
            and alone.
        flipped: rows with another label than the adapter's.
        fixed: rows that only the export has right.
        broken: rows that only the adapter has right.
        accuracy: of the export, as a share.
        adapter_accuracy: of the adapter, as a share.
        mcnemar_p: exact McNemar p-value of the difference of the two accuracies.
        rows_per_second: with all rows given at once, on `threads` threads.
        single_ms: median milliseconds for one text alone.
        threads: processor threads.
        bytes: of all files of the folder.
    """

    rows: int
    largest_difference: float
    flipped: int
    fixed: int
    broken: int
    accuracy: float
    adapter_accuracy: float
    mcnemar_p: float
    rows_per_second: float
    single_ms: float
    threads: int
    bytes: int


class Record(BaseModel):
    """The check of an export, and the sha256 of each file of the adapter that was exported."""

    adapter: dict[str, str]
    check: Check


RECORDS = TypeAdapter(dict[str, Record])


def record_export(name: str, record: Record) -> None:
    """Record an export in place of the last one of its kind: format and precision.

    Raises:
        DataError: if the file is damaged.
    """
    records = _read() | {name: record}
    write_json(paths.EXPORTS, {name: one.model_dump() for name, one in records.items()})


def exports_of(adapter: dict[str, str]) -> dict[str, dict[str, Any]]:
    """Return the check of each recorded export of this adapter, by format and precision.

    Args:
        adapter: the sha256 of each file of the adapter.

    Raises:
        DataError: if the file is damaged.
    """
    records = _read().items()
    return {name: one.check.model_dump() for name, one in records if one.adapter == adapter}


def _read() -> dict[str, Record]:
    if not paths.EXPORTS.exists():
        return {}
    try:
        return RECORDS.validate_json(paths.EXPORTS.read_bytes())
    except ValidationError as error:
        fault = error.errors()[0]
        place = ": ".join(map(str, (paths.EXPORTS, *fault["loc"])))
        raise DataError(
            f"{printable(place, 200)}: {printable(fault['msg'], 200)}",
            f"restore it: git checkout {paths.EXPORTS}; or put {{}} into it and export again",
        ) from error
