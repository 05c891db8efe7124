"""Stage train_lora: what it writes, what it says, and what a failure leaves behind."""

from __future__ import annotations

import csv
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from stages.core import paths
from stages.core.errors import ModelError, ParamsError
from stages.core.params import Params
from stages.evaluate_adapter import evaluate_adapter
from stages.evaluate_base import evaluate_base
from stages.train_lora import train_lora
from tests.support.tiny import changed


def content(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}


def rows_of(file: Path) -> list[dict[str, str]]:
    with file.open(encoding="utf-8", newline="") as opened:
        return list(csv.DictReader(opened))


@pytest.mark.usefixtures("project")
@pytest.mark.parametrize(
    ("change", "precision"),
    [
        ({}, "fp32"),
        ({}, "bf16"),
        ({"lora__target_modules": "all-linear"}, "bf16"),
        *(({"train__method": method}, "fp32") for method in ("full", "head", "bias", "peft")),
        pytest.param({"lora__target_modules": "all-linear"}, "fp32", marks=pytest.mark.slow),
        *(
            pytest.param({"train__method": method}, "bf16", marks=pytest.mark.slow)
            for method in ("full", "head", "bias", "peft")
        ),
    ],
    ids=str,
)
def test_an_adapter_trained_for_no_epoch_scores_exactly_as_the_base(
    params: Params, precision: str, change: dict[str, Any]
) -> None:
    still = changed(params, train__epochs=0, compute__precision=precision, **change)
    trained = paths.ADAPTER_PREDICTIONS.read_bytes()
    if precision == "bf16":
        evaluate_base(still)
    train_lora(still)
    evaluate_adapter(still)
    assert paths.ADAPTER_PREDICTIONS.read_bytes() == paths.BASE_PREDICTIONS.read_bytes()
    assert paths.ADAPTER_METRICS.read_bytes() == paths.BASE_METRICS.read_bytes()
    assert trained != paths.BASE_PREDICTIONS.read_bytes()  # training does make a difference
    assert [rows_of(file) for file in sorted(paths.TRAINING_CURVES.iterdir())] == [[], []]


@pytest.mark.usefixtures("project")
def test_full_fine_tuning_trains_every_weight_through_the_same_stages(
    params: Params, capsys: pytest.CaptureFixture[str]
) -> None:
    full = changed(params, train__method="full", train__full_learning_rate=0.003)
    train_lora(full)
    assert "(100.00 %)" in capsys.readouterr().out
    before = load_file(paths.BASE_MODEL / "model.safetensors")
    after = load_file(paths.ADAPTER_WEIGHTS)
    # With mean pooling there is no pooler.
    matrices = {n for n, tensor in before.items() if tensor.ndim > 1 and "pooler" not in n}
    assert matrices
    assert all(not torch.equal(before[name], after[f"bert.{name}"]) for name in matrices)
    lora = paths.ADAPTER_METRICS.read_bytes()
    evaluate_adapter(full)
    assert paths.ADAPTER_METRICS.read_bytes() != lora
    again = {name: tensor + 1e-7 for name, tensor in after.items()}
    save_file(again, paths.ADAPTER_WEIGHTS)
    with pytest.raises(ModelError, match="sha256"):
        evaluate_adapter(full)


@pytest.mark.usefixtures("project")
def test_a_mistake_in_params_leaves_the_old_adapter(params: Params) -> None:
    old = content(paths.ADAPTER)
    with pytest.raises(ParamsError):
        train_lora(changed(params, lora__target_modules=["quary"]))
    assert content(paths.ADAPTER) == old


@pytest.mark.usefixtures("project")
def test_a_head_of_another_base_is_refused(params: Params, models: dict[str, Path]) -> None:
    shutil.rmtree(paths.BASE_MODEL)
    shutil.copytree(models["distilbert"], paths.BASE_MODEL)
    with pytest.raises(ModelError, match="models/head: belongs to another base model"):
        train_lora(params)


@pytest.mark.usefixtures("project")
def test_the_stage_says_what_trains(params: Params, capsys: pytest.CaptureFixture[str]) -> None:
    train_lora(changed(params, train__epochs=0, lora__modules_to_save=["embeddings"]))
    (line,) = capsys.readouterr().out.splitlines()
    assert line.startswith("LoRA r=4 on key, query, value (6 modules), all of bert.embeddings, h")


@pytest.mark.usefixtures("project")
def test_the_head_alone_trains_through_the_same_stages(
    params: Params, capsys: pytest.CaptureFixture[str]
) -> None:
    train_lora(changed(params, train__method="head", train__learning_rate=0.01))
    assert capsys.readouterr().out.startswith("the head classifier: 66 of ")
    fitted, trained = load_file(paths.HEAD_WEIGHTS), load_file(paths.ADAPTER_WEIGHTS)
    assert fitted.keys() == trained.keys()
    assert not any(torch.equal(fitted[name], trained[name]) for name in fitted)
    evaluate_adapter(changed(params, train__method="head"))
    assert paths.ADAPTER_PREDICTIONS.read_bytes() != paths.BASE_PREDICTIONS.read_bytes()


@pytest.mark.guard("the saved adapter is the trained one")
@pytest.mark.usefixtures("project")
def test_an_adapter_that_does_not_come_back_as_it_was_is_not_kept(
    params: Params, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = content(paths.ADAPTER)
    monkeypatch.setattr("stages.train_lora.load_adapter", lambda base, *_: base)
    with pytest.raises(ModelError, match="loaded again it gives other logits"):
        train_lora(params)
    assert content(paths.ADAPTER) == before
