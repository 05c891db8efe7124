"""The command `bert-lora export`: checked against the adapter, in place whole or not at all."""

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from transformers import pipeline

from stages.core import paths
from stages.core.artefacts import read_json, sha256_of
from stages.reporting.records import Check
from stages.tools import export
from stages.tools.predictor import open_predictor
from tests.support.command import Command
from tests.support.tiny import ROOT


@pytest.fixture
def call(project: Path, command: Command) -> Command:
    """Return `bert-lora` for a finished run."""
    (project / "dvc.yaml").write_bytes((ROOT / "dvc.yaml").read_bytes())
    (project / "stages").mkdir()
    return command


def leftovers(folder: Path) -> list[str]:
    return [path.name for path in folder.iterdir() if path.name.startswith(".")]


def test_a_merged_folder_is_written_checked_and_described(
    call: Command, project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (project / "deep").mkdir()
    monkeypatch.chdir(project / "deep")
    result = call("export", "out")
    assert result.code == 0, result.err
    folder = project / "deep/out"
    test = pd.read_parquet(project / paths.TEST)
    metrics = read_json(project / paths.ADAPTER_METRICS)
    record = read_json(folder / "export.json")
    found = record["check"]
    assert (record["format"], record["precision"]) == ("merged", "fp32")
    assert record["temperature"] == read_json(project / paths.ADAPTER_MANIFEST)["temperature"]
    assert record["adapter"] == read_json(project / paths.ADAPTER_MANIFEST)["files"]
    assert record["base_source"] == "a model folder of its author"  # no path of this machine
    assert (found["rows"], found["flipped"], found["mcnemar_p"]) == (len(test), 0, 1)
    assert 0 <= found["largest_difference"] < 1e-4
    assert found["accuracy"] == found["adapter_accuracy"] == pytest.approx(metrics["accuracy"])
    assert found["rows_per_second"] > 0
    assert {path.name for path in folder.iterdir()} == {
        *("README.md", "config.json", "export.json", "model.safetensors"),
        *("tokenizer.json", "tokenizer_config.json"),
    }
    assert record["files"] == {
        name: sha256_of(folder / name)
        for name in ("config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json")
    }
    assert result.out.startswith(f'{{\n  "rows": {len(test)},')
    assert result.out.endswith(f"{folder}: written\n")
    classify: Any = pipeline("text-classification", str(folder), device="cpu")
    answers = classify(test["text"].tolist(), truncation=True)
    right = [a["label"] == label for a, label in zip(answers, test["label"], strict=True)]
    assert np.mean(right) == pytest.approx(found["accuracy"])
    card = (folder / "README.md").read_text(encoding="utf-8")
    assert "name = 'out'" in card
    assert "UltraVBertForSequenceClassification" in card
    assert str(project) not in card
    assert not any(text in card for text in test["text"])
    recorded = read_json(project / paths.EXPORTS)["merged fp32"]
    assert recorded == {"adapter": record["adapter"], "check": found}
    again = call("export", str(folder))
    assert again.code == 2
    assert again.err == (
        f"error: {folder}: an export is there already. Fix: add --force to replace it\n"
    )
    assert leftovers(project / "deep") == []


@pytest.mark.parametrize("more", [[], ["--int8"]])
def test_an_onnx_folder_answers_predict(call: Command, project: Path, more: list[str]) -> None:
    result = call("export", "out", "--format", "onnx", *more)
    assert result.code == 0, result.err
    record = read_json(Path("out/export.json"))
    assert record["precision"] == ("int8" if more else "fp32")
    assert ("quantisation" in record["model"]) == bool(more)
    test = pd.read_parquet(paths.TEST)["text"].tolist()
    by_adapter, by_export = (
        call("predict", "--all", *extra, *test[:8]) for extra in ([], ["--model", "out"])
    )
    assert (by_export.code, by_export.err) == (0, "")
    close = 0.2 if more else 1e-5
    for adapter, onnx in zip(by_adapter.rows, by_export.rows, strict=True):
        assert list(adapter) == list(onnx)
        assert onnx["text"] == adapter["text"]
        assert onnx["p_positive"] == pytest.approx(adapter["p_positive"], abs=close)
    shutil.rmtree(project / "models")  # the exported folder is enough
    assert call("predict", "--all", "--model", "out", *test[:8]).rows == by_export.rows


@pytest.mark.guard("tolerance of an export")
def test_beyond_the_tolerance_nothing_is_written(call: Command, project: Path) -> None:
    result = call("export", "out", "--format", "onnx", "--int8", "--tolerance", "0.00001")
    assert result.code == 1
    assert result.err.splitlines()[-1].startswith(
        "error: bert-lora export: a logit differs from the adapter's by "
    )
    assert "more than the tolerance of 1e-05" in result.err
    assert "nothing was written. Fix: leave out --int8, or raise --tolerance" in result.err
    assert not (project / "out").exists()
    assert [name for name in leftovers(project) if "out" in name] == []


def test_an_export_that_does_not_run_is_not_written(
    call: Command, project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def other(model: Any, _: Any, path: Path) -> None:
        path.write_bytes(b"not a graph")
        assert model is not None

    monkeypatch.setattr("stages.tools.export.write_onnx", other)
    result = call("export", "out", "--format", "onnx")
    assert result.code == 4
    assert "the export does not run in a fresh process: " in result.err
    assert "model.onnx: cannot be loaded" in result.err
    assert not (project / "out").exists()


@pytest.mark.guard("what an export replaces")
def test_force_replaces_an_export_and_nothing_else(call: Command, project: Path) -> None:
    (project / "mine").mkdir()
    (project / "mine/notes.txt").write_text("mine", encoding="utf-8")
    for name in ("mine", "models/adapter", "params.yaml"):
        result = call("export", name, "--force")
        assert result.code == 2
        assert f"{name}: exists and is no export; it is never replaced" in result.err
    assert (project / "mine/notes.txt").read_text(encoding="utf-8") == "mine"
    (project / "empty").mkdir()
    assert call("export", "empty").code == 0
    (project / "empty/config.json").write_text("{}", encoding="utf-8")
    assert call("export", "empty", "--force").code == 0
    assert open_predictor(project / "empty").labels == ["negative", "positive"]


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["out", "--int8"], 2, "--int8 without --format onnx"),
        (["out", "--format", "onxx"], 2, "'onxx' is not one of 'merged', 'onnx'"),
        (["out", "--tolerance", "-1"], 2, "should be greater than or equal to 0"),
        ([], 2, "Missing argument 'FOLDER'"),
    ],
)
def test_a_mistake_ends_in_one_line(
    call: Command, arguments: list[str], code: int, message: str
) -> None:
    result = call("export", *arguments)
    assert (result.code, result.out) == (code, "")
    assert message in result.err
    assert result.err.count("\n") == result.err.count(" Fix: ") == 1


def test_an_export_that_is_worse_beyond_chance_is_said_to_be(
    call: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    figures: dict[str, Any] = {
        **{"rows": 100, "largest_difference": 1.5, "flipped": 12, "fixed": 2, "broken": 10},
        **{"accuracy": 0.8, "adapter_accuracy": 0.88, "mcnemar_p": 0.0386, "bytes": 2_500_000},
        **{"rows_per_second": 1234.5, "single_ms": 2.25, "threads": 2},
    }
    monkeypatch.setattr(export, "check_export", lambda *_: Check(**figures))
    said = "warning: less accurate than the adapter, beyond chance: 10 rows broken, 2 fixed\n"
    assert call("export", "out", "--tolerance", "9").err.endswith(said)
    figures |= {"fixed": 10, "broken": 2}
    assert "warning" not in call("export", "out", "--tolerance", "9", "--force").err


def test_flips_and_the_paired_test_are_counted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    adapter = np.zeros((10, 2), dtype=np.float32)
    adapter[:, 0] = 1
    ours = adapter.copy()
    ours[:3] = [[0, 2]] * 3  # flipped; the first two of them are right then
    monkeypatch.setattr(
        export,
        "_in_fresh_process",
        lambda *_: {"logits": ours, "alone": ours[:5] + 0.5, "rows_per_second": 7, "single_ms": 3},
    )
    found = export.check_export(tmp_path, ["x"] * 10, [1, 1, 0, 0, 0, 0, 0, 0, 0, 0], adapter, 1)
    assert (found.flipped, found.fixed, found.broken) == (3, 2, 1)
    assert (found.accuracy, found.adapter_accuracy) == (0.9, 0.8)
    assert found.mcnemar_p == pytest.approx(1.0)
    assert found.largest_difference == 2.5
