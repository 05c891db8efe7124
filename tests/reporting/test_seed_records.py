"""The record of several seeds: its figures, where it belongs, its file."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from stages.core import paths
from stages.core.errors import DataError
from stages.core.params import Params
from stages.reporting.records import (
    digest_of_rows,
    read_records,
    record_of,
    records_of_run,
    settings_of,
    store,
)
from tests.support.predictions import frame
from tests.support.tiny import changed


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def test_seeds_that_agree_leave_the_test_set_as_the_limit() -> None:
    record = record_of([1, 2], [frame([True, False] * 20)] * 2, [frame([True] * 40)] * 2)
    assert record["accuracy_gain_sd"] == 0
    assert record["limits"] == "the test set"


def test_one_seed_has_no_interval_over_seeds() -> None:
    record = record_of([7], [frame([True, False])], [frame([True, True])])
    assert record["accuracy_gain_low"] is None
    assert record["limits"] is None
    assert json.dumps(record, allow_nan=False)


def test_a_record_replaces_one_of_the_same_key() -> None:
    first = {"settings": "b", "precision": "bf16", "test_rows": "x", "seeds": [1]}
    others = (
        {**first, "settings": "a"},
        {**first, "precision": "fp32"},
        {**first, "seeds": [1, 2]},
    )
    for record in (first, *others):
        store(record)
    content = json.loads(paths.SEEDS.read_text(encoding="utf-8"))
    assert [(r["settings"], r["precision"], r["seeds"]) for r in content] == [
        ("a", "bf16", [1]),
        ("b", "bf16", [1, 2]),
        ("b", "fp32", [1]),
    ]


@pytest.mark.parametrize("content", ["{", '{"settings": "a"}', '[{"seeds": [1]}]', "[3]"])
def test_a_damaged_file_of_records_is_no_traceback(content: str) -> None:
    paths.SEEDS.parent.mkdir()
    paths.SEEDS.write_text(content, encoding="utf-8")
    with pytest.raises(DataError, match=r"git checkout metrics/seeds\.json"):
        read_records()


def entry(params: Params, rows: str, count: int = 1, precision: str = "fp32") -> dict[str, Any]:
    return {
        "settings": settings_of(params),
        "precision": precision,
        "test_rows": rows,
        "seeds": list(range(count)),
    }


def test_records_of_a_run_are_found_by_settings_and_rows(params: Params) -> None:
    base = frame([True, False])
    rows = digest_of_rows(base)
    full, longer = (changed(params, train__method="full"), changed(params, train__epochs=99))
    for record in (entry(params, rows), entry(full, rows), entry(longer, rows)):
        store(record)
    store(entry(params, "other rows"))
    records = records_of_run(base, params)
    assert set(records) == {"lora", "full"}
    assert records["lora"]["settings"] == settings_of(params)


def test_of_two_precisions_the_one_with_more_seeds_is_taken(params: Params) -> None:
    base = frame([True, False])
    rows = digest_of_rows(base)
    store(entry(params, rows, 5, "bf16"))
    store(entry(params, rows, 3, "fp32"))
    assert records_of_run(base, params)["lora"]["precision"] == "bf16"


@pytest.mark.parametrize(
    ("method", "key", "counts"),
    [
        ("lora", {"train__full_learning_rate": 0.5}, False),
        ("lora", {"train__learning_rate": 0.5}, True),
        ("lora", {"lora__r": 2}, True),
        ("full", {"train__full_learning_rate": 0.5}, True),
        ("full", {"train__learning_rate": 0.5}, False),
        ("full", {"lora__r": 2}, False),
        ("head", {"train__learning_rate": 0.5}, True),
        ("head", {"lora__r": 2}, False),
        ("lora", {"compute__threads": 7}, False),
        ("lora", {"seed": 7}, False),
        ("lora", {"tfidf__c": [5.0]}, False),
        ("lora", {"train__attention_dropout": 0.5}, True),
    ],
)
def test_settings_are_what_the_method_reads(
    params: Params, method: str, key: dict[str, Any], counts: bool
) -> None:
    before = changed(params, train__method=method)
    after = changed(before, **key)
    assert (settings_of(before) != settings_of(after)) is counts
