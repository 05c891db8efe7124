"""Stage evaluate_adapter: the same rows as the base, scored in the same way."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import pytest

from stages.core import paths
from stages.core.params import Params
from stages.evaluate_adapter import evaluate_adapter
from tests.support.tiny import changed


def metrics(folder: Path, path: Path) -> dict[str, float]:
    content: dict[str, float] = json.loads((folder / path).read_text(encoding="utf-8"))
    return content


def rows(file: Path) -> list[dict[str, str]]:
    with file.open(encoding="utf-8", newline="") as opened:
        return list(csv.DictReader(opened))


def test_base_and_adapter_have_identical_keys(finished_run: Path) -> None:
    base, adapter = (metrics(finished_run, p) for p in (paths.BASE_METRICS, paths.ADAPTER_METRICS))
    assert sorted(base) == sorted(adapter) == ["accuracy", "f1_macro", "log_loss"]
    assert base["log_loss"] != adapter["log_loss"]


def test_base_and_adapter_are_scored_on_the_same_rows(finished_run: Path) -> None:
    base, adapter = (
        rows(finished_run / p) for p in (paths.BASE_PREDICTIONS, paths.ADAPTER_PREDICTIONS)
    )
    assert list(base[0]) == list(adapter[0])
    assert [(row["id"], row["label"]) for row in base] == [
        (row["id"], row["label"]) for row in adapter
    ]
    assert len({row["id"] for row in base}) == 20


@pytest.mark.usefixtures("project")
@pytest.mark.parametrize("seed", [1, 2])
def test_no_seed_and_no_old_result_changes_the_scores(params: Params, seed: int) -> None:
    before = [p.read_bytes() for p in (paths.ADAPTER_METRICS, paths.ADAPTER_PREDICTIONS)]
    paths.ADAPTER_METRICS.unlink()
    paths.ADAPTER_PREDICTIONS.write_text("old", encoding="utf-8")
    evaluate_adapter(changed(params, seed=seed))
    after = [p.read_bytes() for p in (paths.ADAPTER_METRICS, paths.ADAPTER_PREDICTIONS)]
    assert after == before


@pytest.mark.usefixtures("project")
def test_it_says_what_it_found(params: Params, capsys: pytest.CaptureFixture[str]) -> None:
    evaluate_adapter(params)
    accuracy = metrics(Path(), paths.ADAPTER_METRICS)["accuracy"]
    assert capsys.readouterr().out == f"adapter: accuracy {accuracy:.4f} on 20 test rows\n"
