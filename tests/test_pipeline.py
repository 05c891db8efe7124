"""All stages in order, on data of several classes, label types and architectures."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from stages.core import paths
from stages.core.params import Params
from stages.reporting.results import MODELS
from stages.training import trainer
from tests.support.tiny import NAMES, changed, new_process, run_all, save_params, save_table, table

OUTPUTS = {
    *(paths.TRAIN, paths.VALIDATION, paths.TEST, paths.LABELS, paths.DATA_SUMMARY),
    *(paths.BASE_METRICS, paths.ADAPTER_METRICS, paths.COMPARISON, paths.GAIN),
    paths.TOKENS,
    *(paths.BASE_PREDICTIONS, paths.ADAPTER_PREDICTIONS),
    paths.HEAD_WEIGHTS,
    paths.HEAD_FIT,
    paths.HEAD_START,
    *(paths.TRAINING_CURVES / f"{name}.csv" for name in ("train", "validation")),
    *(paths.ADAPTER / f"adapter_{name}" for name in ("config.json", "model.safetensors")),
    paths.ADAPTER / "manifest.json",
    paths.ADAPTER_MODEL_CONFIG,
    *(paths.TFIDF_METRICS, paths.TFIDF_PREDICTIONS, paths.DETAILS, paths.LADDER),
    *(paths.FLIPS, paths.SUSPECTS, paths.REPORT_HTML, paths.REPORT_MD, paths.MODEL_CARD),
    *(paths.FIGURES / f"{name}.png" for name in ("ladder", "answered", "confusion")),
    *(paths.FIGURES / f"{name}.png" for name in ("reliability", "training")),
    *(paths.CURVES / f"{name}.csv" for name in ("reliability_raw", "search")),
    *(paths.CURVES / f"{kind}_{who}.csv" for kind in ("answered", "reliability") for who in MODELS),
}


@pytest.fixture
def _empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def read(path: Path) -> Any:
    return json.loads(path.read_text(encoding="utf-8"))


def files(folder: Path) -> set[Path]:
    return {path.relative_to(folder) for path in folder.rglob("*") if path.is_file()}


def test_a_run_writes_its_outputs_and_nothing_else(finished_run: Path) -> None:
    base = {file for file in files(finished_run) if file.parent == paths.BASE_MODEL}
    assert len(base) == 4
    inputs = {paths.PARAMS, paths.RAW / "mine.csv"}
    assert files(finished_run) == OUTPUTS | base | inputs
    assert {path.name for path in (finished_run / "models").iterdir()} == {
        "base",
        "head",
        "adapter",
    }


def test_the_comparison_agrees_with_both_scores(finished_run: Path) -> None:
    compared, base, adapter = (
        read(finished_run / path)
        for path in (paths.COMPARISON, paths.BASE_METRICS, paths.ADAPTER_METRICS)
    )
    assert compared["rows"] == 20
    assert compared["accuracy_base"] == base["accuracy"]
    assert compared["accuracy_adapter"] == adapter["accuracy"]
    gain = adapter["accuracy"] - base["accuracy"]
    assert compared["accuracy_gain"] == pytest.approx(gain, abs=2e-6)
    assert compared["accuracy_gain_low"] <= gain <= compared["accuracy_gain_high"]


def test_no_text_is_in_two_splits(finished_run: Path) -> None:
    frames = [
        pd.read_parquet(finished_run / p) for p in (paths.TRAIN, paths.VALIDATION, paths.TEST)
    ]
    assert [len(frame) for frame in frames] == [60, 20, 20]
    rows = pd.concat(frames)
    assert rows["text"].is_unique
    assert rows["id"].is_unique
    assert sorted(rows["text"]) == sorted(text for text, _ in table(classes=2))


@pytest.mark.usefixtures("_empty_folder")
def test_three_classes_with_integer_labels(params: Params) -> None:
    rows = [(text, 2 * NAMES.index(label)) for text, label in table(classes=3, rows=120)]
    save_table(rows)
    run_all(params)
    assert read(paths.LABELS) == ["0", "2", "4"]
    assert read(paths.DATA_SUMMARY)["classes"] == 3
    for path in (paths.BASE_PREDICTIONS, paths.ADAPTER_PREDICTIONS):
        with path.open(encoding="utf-8", newline="") as file:
            lines = list(csv.DictReader(file))
        assert list(lines[0]) == ["id", "label", "predicted", "p_0", "p_2", "p_4"]
        assert len(lines) == 24
        for line in lines:
            probabilities = {label: float(line[f"p_{label}"]) for label in ("0", "2", "4")}
            assert sum(probabilities.values()) == pytest.approx(1)
            assert line["predicted"] == max(probabilities, key=lambda label: probabilities[label])
    assert read(paths.COMPARISON)["rows"] == 24
    assert read(paths.ADAPTER / "manifest.json")["labels"] == ["0", "2", "4"]
    assert read(paths.ADAPTER_METRICS)["accuracy"] > 1 / 3


@pytest.mark.usefixtures("_empty_folder")
@pytest.mark.parametrize(
    "name",
    [
        "distilbert",
        *(pytest.param(name, marks=pytest.mark.slow) for name in ("bert-no-pooler", "deberta")),
    ],
)
def test_other_architectures_run_through_all_stages(
    params: Params, models: dict[str, Path], monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    # One pass may leave random weights worse than the base; what is asked here is whether they run.
    monkeypatch.setattr(trainer, "finds_worse", lambda *_: False)
    save_table(table(classes=2, rows=60))
    run_all(
        changed(
            params,
            model__source=str(models[name]),
            train__epochs=1,
            lora__target_modules="all-linear",
            compute__precision="bf16",
        )
    )
    assert read(paths.COMPARISON)["rows"] == 12
    base, adapter = read(paths.BASE_METRICS), read(paths.ADAPTER_METRICS)
    assert base["log_loss"] != adapter["log_loss"]


@pytest.mark.slow
@pytest.mark.usefixtures("project")
@pytest.mark.parametrize(
    ("change", "code", "message"),
    [
        ({}, 0, "adapter: accuracy "),
        ({"seed": -1}, 2, "error: params.yaml:1: seed: expected an integer from 0 to 4294967295"),
    ],
)
def test_a_stage_as_a_process(
    params: Params, change: dict[str, Any], code: int, message: str
) -> None:
    save_params(params.model_copy(update=change))
    process = new_process(
        "import runpy, sys; sys.argv = ['stages', 'evaluate_adapter']; "
        "runpy.run_module('stages', {}, '__main__')"
    )
    output, _ = process.communicate()
    assert process.returncode == code, output
    assert message in output
    assert "Traceback" not in output
    assert len(output.splitlines()) == 1
