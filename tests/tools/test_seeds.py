"""`bert-lora seeds`: real experiments, taken up where they were left, and their figures."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from contextlib import chdir
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from small_project import bert_lora, call, make, set_param

from stages.shared import paths
from stages.tools import seeds


def frame(right: list[bool]) -> pd.DataFrame:
    labels = ["no" if number % 2 else "yes" for number in range(len(right))]
    said = [
        label if good else {"no": "yes", "yes": "no"}[label]
        for label, good in zip(labels, right, strict=True)
    ]
    ids = [f"id{number}" for number in range(len(right))]
    return pd.DataFrame({"id": ids, "label": labels, "predicted": said})


def test_figures_of_three_seeds_by_hand() -> None:
    bases = [frame([True] * 6 + [False] * 4)] * 3
    adapters = [frame([True] * n + [False] * (10 - n)) for n in (8, 9, 7)]
    record = seeds.record_of([1, 2, 3], bases, adapters)
    assert record["accuracy_adapter"] == [0.8, 0.9, 0.7]
    assert record["accuracy_gain"] == pytest.approx([0.2, 0.3, 0.1])
    assert record["accuracy_gain_mean"] == pytest.approx(0.2)
    assert record["accuracy_gain_sd"] == pytest.approx(0.1)
    half = 4.302653 * 0.1 / math.sqrt(3)  # Student t, 2 degrees of freedom
    assert record["accuracy_gain_low"] == pytest.approx(0.2 - half, abs=1e-6)
    assert record["accuracy_gain_high"] == pytest.approx(0.2 + half, abs=1e-6)
    assert record["gain_rows_low"] <= 0.2 <= record["gain_rows_high"]
    assert record["limits"] == "the seeds"
    assert record["rows"] == 10
    text = seeds.table_of(record | {"settings": "x"})
    assert "worst seed 3 with 70.00 %, best seed 2 with 90.00 %" in text


def test_seeds_that_agree_leave_the_test_set_as_the_limit() -> None:
    record = seeds.record_of([1, 2], [frame([True, False] * 20)] * 2, [frame([True] * 40)] * 2)
    assert record["accuracy_gain_sd"] == 0
    assert record["limits"] == "the test set"


def test_one_seed_has_no_interval_over_seeds() -> None:
    record = seeds.record_of([7], [frame([True, False])], [frame([True, True])])
    assert record["accuracy_gain_low"] is None
    assert record["limits"] is None
    assert json.dumps(record, allow_nan=False)


def test_a_record_takes_the_place_of_its_like(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    one = {"settings": "b", "test_rows": "x", "seeds": [1]}
    for record in (one, {**one, "settings": "a"}, {**one, "seeds": [1, 2]}):
        seeds.store(record)
    found = json.loads(paths.SEEDS.read_text(encoding="utf-8"))
    assert [(record["settings"], record["seeds"]) for record in found] == [
        ("a", [1]),
        ("b", [1, 2]),
    ]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("made") / "project"
    with chdir(Path.cwd()):
        make(folder)
    return folder


@pytest.fixture
def _inside(made: Path) -> Iterator[None]:
    with chdir(made):
        yield


@pytest.mark.usefixtures("_inside")
@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("0",), "N"),
        (("two",), "N"),
        (("2", "-S", "seed=3"), "any param of params.yaml but seed"),
        (("2", "-S", "lora.r"), "give KEY=VALUE"),
        (("2", "-S", "=3"), "give KEY=VALUE"),
    ],
)
def test_a_mistake_is_one_line(arguments: tuple[str, ...], message: str) -> None:
    done = bert_lora("seeds", *arguments)
    assert done.returncode == 2
    assert message in done.stderr
    assert len(done.stderr.splitlines()) == 1


def record_of(folder: Path) -> list[dict[str, Any]]:
    content: list[dict[str, Any]] = json.loads((folder / paths.SEEDS).read_text(encoding="utf-8"))
    return content


@pytest.mark.slow
@pytest.mark.usefixtures("_inside")
def test_seeds_are_experiments_and_a_second_call_goes_on() -> None:
    first = bert_lora("seeds", "2")
    assert first.returncode == 0, first.stderr
    assert first.stdout.count("running") == 2
    names = call("dvc", "exp", "list", "--name-only").split()
    assert len(names) == 2
    assert all(name.startswith("seeds-") for name in names)
    assert call("git", "status", "--porcelain", "-uno") == ""  # the workspace is as it was

    again = bert_lora("seeds", "3")
    assert again.stdout.count("done before") == 2
    assert again.stdout.count("running") == 1
    (record,) = record_of(Path())
    assert record["seeds"] == [1, 2, 3]
    assert record["accuracy_base"][0] == record["accuracy_base"][1]
    assert len(set(record["accuracy_adapter"])) > 1
    found = bert_lora("compare", names[0], names[1], "--json")
    pair = json.loads(found.stdout)
    assert {pair["first"], pair["second"]} <= set(record["accuracy_adapter"])

    other = bert_lora("seeds", "1", "-S", "train.learning_rate=0.0005")
    assert other.returncode == 0, other.stderr
    assert len(record_of(Path())) == 2


@pytest.mark.slow
@pytest.mark.usefixtures("_inside")
def test_a_run_that_fails_is_named() -> None:
    set_param("  learning_rate: 0.0011", "  learning_rate: 0")
    try:
        done = bert_lora("seeds", "1")
    finally:
        call("git", "checkout", "-q", "params.yaml")
    assert done.returncode == 2  # the params are checked before anything runs
    done = bert_lora("seeds", "1", "-S", "nosuch.key=1")
    assert done.returncode == 5
    assert done.stderr.splitlines()[-1].startswith("error: seed 1: its run failed, see above.")
    assert "Traceback" not in done.stderr
