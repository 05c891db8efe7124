"""All stages in order, on data of several classes, label types and architectures."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest

from stages.core import paths
from stages.core.artefacts import read_json
from stages.core.params import Params
from stages.reporting.results import MODELS
from stages.training import trainer
from tests.support.tiny import NAMES, changed, run_all, save_table, table

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


@pytest.mark.usefixtures("tmp_cwd")
def test_three_classes_with_integer_labels(params: Params) -> None:
    rows = [(text, 2 * NAMES.index(label)) for text, label in table(classes=3, rows=120)]
    save_table(rows)
    run_all(params)
    assert read_json(paths.LABELS) == ["0", "2", "4"]
    assert read_json(paths.DATA_SUMMARY)["classes"] == 3
    for path in (paths.BASE_PREDICTIONS, paths.ADAPTER_PREDICTIONS):
        lines = pd.read_csv(path)
        assert list(lines) == ["id", "label", "predicted", "p_0", "p_2", "p_4"]
        assert len(lines) == 24
        shares = lines[["p_0", "p_2", "p_4"]]
        assert shares.sum(axis=1).to_numpy() == pytest.approx(1)
        assert (shares.idxmax(axis=1) == "p_" + lines["predicted"].astype(str)).all()
    assert read_json(paths.COMPARISON)["rows"] == 24
    assert read_json(paths.ADAPTER / "manifest.json")["labels"] == ["0", "2", "4"]
    assert read_json(paths.ADAPTER_METRICS)["accuracy"] > 1 / 3


@pytest.mark.usefixtures("tmp_cwd")
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
    assert read_json(paths.COMPARISON)["rows"] == 12
    base, adapter = read_json(paths.BASE_METRICS), read_json(paths.ADAPTER_METRICS)
    assert base["log_loss"] != adapter["log_loss"]
