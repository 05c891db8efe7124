"""Rows 21 to 29, 57 and 58: adapters and models that are damaged, foreign, hostile or old."""

from __future__ import annotations

import json
import pickle
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from safetensors.torch import load_file, save_file

from stages.core import paths
from stages.core.artefacts import sha256_of
from stages.core.params import Params
from tests.support.faults import Run, refused, stage
from tests.support.tiny import changed, save_params

pytestmark = pytest.mark.usefixtures("project")
WEIGHTS = paths.BASE_MODEL / "model.safetensors"
CANARY = Path("CANARY")


def sealed_again() -> None:
    """Let the manifest name the adapter's files as they are: the damage came before the seal."""
    manifest = json.loads(paths.ADAPTER_MANIFEST.read_text(encoding="utf-8"))
    manifest["files"] = {name: sha256_of(paths.ADAPTER / name) for name in manifest["files"]}
    paths.ADAPTER_MANIFEST.write_text(json.dumps(manifest), encoding="utf-8")


def edit_tensors(path: Path, change: Callable[[dict[str, Any]], Any]) -> None:
    tensors = {name: tensor.clone() for name, tensor in load_file(path).items()}
    change(tensors)
    path.unlink()  # a new file: the old one may be mapped
    save_file(tensors, path, metadata={"format": "pt"})


@pytest.mark.parametrize("sealed", [False, True])
def test_row_21_an_adapter_without_its_head_is_refused(sealed: bool) -> None:
    def behead(tensors: dict[str, Any]) -> None:
        for name in [name for name in tensors if "classifier" in name]:
            del tensors[name]

    edit_tensors(paths.ADAPTER_WEIGHTS, behead)
    if sealed:
        sealed_again()
    refused(stage("evaluate_adapter"), 4, "classifier" if sealed else "sha256", "dvc repro")


def test_row_21_an_adapter_without_one_of_its_tensors_is_refused() -> None:
    def thin(tensors: dict[str, Any]) -> None:
        del tensors[next(name for name in tensors if "lora_A" in name)]

    edit_tensors(paths.ADAPTER_WEIGHTS, thin)
    sealed_again()
    refused(stage("evaluate_adapter"), 4, "1 tensors do not match", "lora_A", "dvc repro")


@pytest.mark.slow
def test_row_22_a_base_without_pooler_gets_one_that_is_saved(
    models: dict[str, Path], params: Params
) -> None:
    save_params(changed(params, model__source=str(models["bert-no-pooler"]), train__epochs=1))
    for name in ("fetch_base", "evaluate_base", "train_lora", "evaluate_adapter"):
        done = stage(name)
        assert done.returncode == 0, done.stdout
    saved = load_file(paths.ADAPTER_WEIGHTS)
    assert any("pooler" in name for name in saved)
    assert any("classifier" in name for name in saved)


def test_row_23_another_base_of_the_same_shape_is_refused() -> None:
    def nudge(tensors: dict[str, Any]) -> None:
        tensors[min(tensors)].view(-1)[0] += 1

    before = sha256_of(WEIGHTS)
    edit_tensors(WEIGHTS, nudge)
    said = refused(stage("evaluate_adapter"), 4, "models/base/model.safetensors", "dvc checkout")
    assert before[:12] in said
    assert sha256_of(WEIGHTS)[:12] in said


def test_row_24_another_base_of_another_shape_is_refused(models: dict[str, Path]) -> None:
    shutil.rmtree(paths.BASE_MODEL)
    shutil.copytree(models["electra"], paths.BASE_MODEL)
    said = refused(stage("evaluate_adapter"), 4, "models/base")
    assert "size mismatch" not in said


def test_row_24_another_tokenizer_is_refused() -> None:
    tokenizer = paths.BASE_MODEL / "tokenizer.json"
    text = tokenizer.read_text(encoding="utf-8")
    tokenizer.write_text(text.replace('"good"', '"fine"', 1), encoding="utf-8")
    refused(stage("evaluate_adapter"), 4, "models/base/tokenizer.json")


@pytest.mark.parametrize("labels", [["positive", "negative"], ["negative", "positive", "neutral"]])
def test_row_25_labels_in_another_order_or_number_are_refused(labels: list[str]) -> None:
    manifest = json.loads(paths.ADAPTER_MANIFEST.read_text(encoding="utf-8"))
    manifest["labels"] = labels
    paths.ADAPTER_MANIFEST.write_text(json.dumps(manifest), encoding="utf-8")
    refused(stage("evaluate_adapter"), 4, str(labels), str(["negative", "positive"]))


HTML = b"<!DOCTYPE html><html><body>Not found</body></html>"
POINTER = b"version https://git-lfs.github.com/spec/v1\noid sha256:" + b"0" * 64 + b"\nsize 9\n"
DAMAGES: dict[str, Callable[[bytes], bytes]] = {
    "empty": lambda _: b"",
    "seven bytes": lambda whole: whole[:7],
    "half": lambda whole: whole[: len(whole) // 2],
    "one less": lambda whole: whole[:-1],
    "one more": lambda whole: whole + b"\0",
    "html": lambda _: HTML,
    "pointer": lambda _: POINTER,
}


@pytest.mark.parametrize("damage", DAMAGES)
@pytest.mark.parametrize("sealed", [False, True])
def test_row_26_a_file_that_is_no_whole_safetensors_is_refused(damage: str, sealed: bool) -> None:
    whole = paths.ADAPTER_WEIGHTS.read_bytes()
    paths.ADAPTER_WEIGHTS.write_bytes(DAMAGES[damage](whole))
    if sealed:
        sealed_again()
    said = refused(stage("evaluate_adapter"), 4, str(paths.ADAPTER_WEIGHTS), "dvc repro")
    assert not sealed or f"{len(DAMAGES[damage](whole))} bytes" in said


@pytest.mark.parametrize("damage", ["empty", "half", "html", "pointer"])
def test_row_26_a_base_that_is_no_whole_safetensors_is_refused(damage: str) -> None:
    WEIGHTS.write_bytes(DAMAGES[damage](WEIGHTS.read_bytes()))
    refused(stage("evaluate_base"), 4, "models/base: cannot be loaded", "dvc repro -f fetch_base")


def test_row_27_a_flipped_bit_and_a_weight_that_is_no_number_are_refused() -> None:
    whole = paths.ADAPTER_WEIGHTS.read_bytes()
    paths.ADAPTER_WEIGHTS.write_bytes(whole[:-9] + bytes([whole[-9] ^ 1]) + whole[-8:])
    refused(stage("evaluate_adapter"), 4, "sha256")

    def poison(tensors: dict[str, Any]) -> None:
        tensors[max(tensors)].view(-1)[0] = float("nan")

    paths.ADAPTER_WEIGHTS.write_bytes(whole)
    edit_tensors(paths.ADAPTER_WEIGHTS, poison)
    sealed_again()
    refused(stage("evaluate_adapter"), 4, "holds a value that is not finite")


class Evil:
    """Touches CANARY when it is unpickled."""

    def __reduce__(self) -> tuple[Any, ...]:
        return (Path.touch, (CANARY.absolute(),))


def test_row_28_pickled_weights_are_refused_and_never_opened(params: Params) -> None:
    evil = Path("evil")
    shutil.copytree(paths.BASE_MODEL, evil)
    (evil / "model.safetensors").unlink()
    (evil / "pytorch_model.bin").write_bytes(pickle.dumps(Evil()))
    save_params(changed(params, model__source=str(evil)))
    refused(stage("fetch_base"), 4, "pickle weights are refused")
    (paths.ADAPTER / "adapter_model.bin").write_bytes(pickle.dumps(Evil()))
    paths.ADAPTER_WEIGHTS.unlink()
    refused(stage("evaluate_adapter"), 4, "adapter_model.safetensors")
    assert not CANARY.exists()
    pickle.loads(pickle.dumps(Evil()))  # noqa: S301  # the canary sings where it is opened
    assert CANARY.exists()


def test_row_29_a_model_that_brings_code_is_refused(params: Params) -> None:
    evil = Path("evil")
    shutil.copytree(paths.BASE_MODEL, evil)
    config = json.loads((evil / "config.json").read_text(encoding="utf-8"))
    config["auto_map"] = {"AutoModelForSequenceClassification": "modeling.Evil"}
    (evil / "config.json").write_text(json.dumps(config), encoding="utf-8")
    (evil / "modeling.py").write_text("open('CANARY', 'w')", encoding="utf-8")
    save_params(changed(params, model__source=str(evil)))
    refused(stage("fetch_base"), 4, "code")
    assert not CANARY.exists()


def test_row_57_what_is_missing_names_the_stage_that_makes_it() -> None:
    shutil.rmtree(paths.ADAPTER)
    refused(stage("evaluate_adapter"), 5, "models/adapter", "Fix: run: dvc repro train_lora")
    paths.ADAPTER.mkdir()
    refused(stage("evaluate_adapter"), 4, "models/adapter", "dvc repro -f train_lora")
    shutil.rmtree(paths.BASE_MODEL)
    refused(stage("evaluate_base"), 5, "Fix: run: dvc repro fetch_base")


def test_row_58_an_adapter_of_the_first_release_still_loads() -> None:
    """Its manifest named no method, since there was but one."""
    before = paths.ADAPTER_METRICS.read_bytes()
    manifest = json.loads(paths.ADAPTER_MANIFEST.read_text(encoding="utf-8"))
    del manifest["method"]
    paths.ADAPTER_MANIFEST.write_text(json.dumps(manifest), encoding="utf-8")
    done = stage("evaluate_adapter")
    assert done.returncode == 0, done.stdout
    assert paths.ADAPTER_METRICS.read_bytes() == before


LOGITS = """
from pathlib import Path
import torch
from stages.core import params, paths
from stages.model import classifier as model, device as compute, saved as adapter_files
from stages.rows import prepared as splits
from stages.running import stage as run
from stages.scoring import logits as scoring
known = params.load_params()
hardware = compute.set_up(known.compute)
labels = splits.read_labels()
base = model.load_base(paths.BASE_MODEL, labels, known.seed)
classifier = adapter_files.load_adapter(base, paths.ADAPTER, paths.BASE_MODEL)
texts = splits.read_split(paths.TEST, labels).texts
torch.save(scoring.predict_logits(classifier, texts, 32, hardware, "x"), "logits.pt")
"""


def test_row_21_a_fresh_process_gives_the_very_logits(trained: tuple[Path, Any]) -> None:
    import torch

    from stages.core.params import ComputeParams
    from stages.model import device as compute
    from stages.rows import prepared as splits
    from stages.scoring import logits as scoring

    folder, classifier = trained
    for path in (paths.ADAPTER, paths.BASE_MODEL):
        shutil.rmtree(path)
        shutil.copytree(folder / path, path)
    done = Run(LOGITS).finish()
    assert done.returncode == 0, done.stdout
    hardware = compute.set_up(ComputeParams(device="cpu", precision="fp32", threads=1))
    texts = splits.read_split(paths.TEST, splits.read_labels()).texts
    here = scoring.predict_logits(classifier, texts, 32, hardware, "x")
    assert float((torch.load("logits.pt") - here).abs().max()) == 0
