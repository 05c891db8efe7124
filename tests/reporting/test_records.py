"""Records of seeds and exports: their figures, where they belong, their files."""

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from stages.core import paths
from stages.core.errors import DataError
from stages.core.params import Params
from stages.reporting.records import (
    SEARCH_KEYS,
    Check,
    Record,
    digest_of_rows,
    exports_of,
    read_curve,
    read_records,
    read_search,
    record_export,
    record_of,
    records_of_run,
    right_of,
    settings_of,
    store,
    write_search,
)
from stages.reporting.significance import gain_interval
from tests.support.predictions import frame
from tests.support.tiny import changed

MADE_OF = {"training rows": "t", "validation rows": "v", "labels": "l", "base": "b", "code": "c"}


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def test_figures_of_three_seeds_by_hand() -> None:
    bases = [frame([True] * 600 + [False] * 400)] * 3
    adapters = [frame([True] * n + [False] * (1000 - n)) for n in (800, 900, 700)]
    record = record_of([1, 2, 3], bases, adapters)
    assert record["accuracy_adapter"] == [0.8, 0.9, 0.7]
    assert record["accuracy_gain"] == pytest.approx([0.2, 0.3, 0.1])
    assert record["accuracy_gain_sd"] == pytest.approx(0.1)
    half = 4.302653 * 0.1 / math.sqrt(3)  # Student t, 2 degrees of freedom
    assert record["accuracy_gain_low"] == pytest.approx(0.2 - half, abs=1e-6)
    assert record["accuracy_gain_high"] == pytest.approx(0.2 + half, abs=1e-6)
    assert (record["limits"], record["rows"]) == ("the seeds", 1000)
    shares = right_of(record)  # of each row, in the order of the ids
    ids = bases[0]["id"].to_numpy()
    of = dict(zip(sorted(ids), shares, strict=True))
    assert [of["id0"], of["id750"], of["id850"], of["id950"]] == pytest.approx([1, 2 / 3, 1 / 3, 0])


def test_an_interval_over_seeds_is_never_narrower_than_the_rows_allow() -> None:
    record = record_of([1, 2], [frame([True] * 90 + [False] * 10)] * 2, [frame([True] * 100)] * 2)
    assert record["accuracy_gain_sd"] == 0
    ends = record["accuracy_gain_low"], record["accuracy_gain_high"]
    assert ends == (record["gain_rows_low"], record["gain_rows_high"]) == gain_interval(10, 0, 100)
    assert record["accuracy_adapter_low"] < 0.97
    assert record["limits"] == "the test set"


def test_one_seed_has_no_interval_over_seeds() -> None:
    record = record_of([7], [frame([True, False])], [frame([True, True])])
    assert record["accuracy_gain_low"] is record["limits"] is None
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
    assert [(r["settings"], r["precision"], r["seeds"]) for r in read_records()] == [
        ("a", "bf16", [1]),
        ("b", "bf16", [1, 2]),
        ("b", "fp32", [1]),
    ]


def entry(params: Params, rows: str, **values: Any) -> dict[str, Any]:
    record = {"settings": settings_of(params), "precision": "fp32", "test_rows": rows}
    return record | {"seeds": [1, 2], "made_of": MADE_OF} | values


def test_records_of_a_run_are_found_by_settings_and_rows(params: Params) -> None:
    base = frame([True, False])
    rows = digest_of_rows(base)
    full, longer = (changed(params, train__method="full"), changed(params, train__epochs=99))
    for record in (entry(params, rows), entry(full, rows), entry(longer, rows)):
        store(record)
    store(entry(params, "other rows"))
    records, notes = records_of_run(base, params, "fp32", MADE_OF)
    assert set(records) == {"lora", "full"}
    assert records["lora"]["settings"] == settings_of(params)
    assert notes == []


@pytest.mark.parametrize(
    ("values", "why"),
    [
        *(({"made_of": {**MADE_OF, name: "other"}}, name) for name in MADE_OF),
        ({"made_of": {}}, "training rows, validation rows, labels, base, code"),
        ({"precision": "bf16"}, "bf16 instead of fp32"),
    ],
)
def test_a_record_that_was_made_of_something_else_is_not_shown(
    params: Params, values: dict[str, Any], why: str
) -> None:
    base = frame([True, False])
    store(entry(params, digest_of_rows(base), **values))
    records, notes = records_of_run(base, params, "fp32", MADE_OF)
    assert records == {}
    (note,) = notes
    assert note.startswith("The seeds of LoRA in metrics/records/seeds.json are not shown")
    assert f"({why})" in note


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
    assert (settings_of(before) != settings_of(changed(before, **key))) is counts


ADAPTER = {"adapter_model.safetensors": "aa"}
CHECK: dict[str, Any] = {key: number for number, key in enumerate(Check.model_fields)}


def exported(**values: Any) -> Record:
    return Record(adapter=ADAPTER, check=Check.model_validate(CHECK | values))


def test_an_export_is_recorded_in_place_of_the_last_one_of_its_kind() -> None:
    assert exports_of(ADAPTER) == {}
    record_export("onnx fp32", exported())
    record_export("onnx int8", exported(flipped=7))
    record_export("onnx fp32", exported(flipped=9))
    found = exports_of(ADAPTER)
    assert found == {"onnx fp32": CHECK | {"flipped": 9}, "onnx int8": CHECK | {"flipped": 7}}
    assert exports_of({"adapter_model.safetensors": "bb"}) == {}  # of another adapter


DAMAGED: list[tuple[Path, Callable[[], Any], str, str]] = [
    *(
        (paths.SEEDS, read_records, content, what)
        for content, what in (
            ("{", "not valid JSON"),
            ('{"settings": "a"}', "not a list of records"),
            ('[{"seeds": [1]}]', "not a list of records"),
        )
    ),
    *(
        (paths.EXPORTS, lambda: exports_of(ADAPTER), content, what)
        for content, what in (
            ("[", "Invalid JSON"),
            ('{"onnx fp32": 3}', "onnx fp32"),
            (json.dumps({"onnx fp32": {"check": CHECK}}), "onnx fp32: adapter: Field required"),
            ('{"onnx fp32": {"adapter": {}, "check": {"rows": 3}}}', "check: largest_difference"),
        )
    ),
    (paths.CURVE, lambda: read_curve("x"), "curve,rows\nx,1\n", "not a record of bert-lora curve"),
    (paths.SEARCH, read_search, "{", "not valid JSON"),
    (paths.SEARCH, read_search, '{"best": null}', "lacks one of study"),
    (paths.SEARCH_TABLE, read_search, "\0\n", "not a table of trials"),
    (paths.SEARCH_TABLE, read_search, "trial,phase\n1,search\n", "not a table of trials"),
]


@pytest.mark.parametrize(("path", "read", "content", "what"), DAMAGED)
def test_a_damaged_record_is_one_line_with_what_restores_it(
    path: Path, read: Callable[[], Any], content: str, what: str
) -> None:
    write_search([], {key: {} for key in SEARCH_KEYS})
    path.write_text(content, encoding="utf-8")
    with pytest.raises(DataError) as caught:
        read()
    (line,) = str(caught.value).splitlines()
    assert line.startswith(f"error: {path}: ")
    assert what in line
    assert f"git checkout HEAD -- {path}" in line
