"""Faults of models and adapters: damaged, foreign, hostile or missing."""

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
from tests.support.faults import assert_refused, assert_succeeded, stage
from tests.support.tiny import changed, save_params

pytestmark = pytest.mark.usefixtures("project")
WEIGHTS = paths.BASE_MODEL / "model.safetensors"
CANARY = Path("CANARY")


def update_manifest() -> None:
    """Write the present hashes of the adapter's files, as if it had been saved damaged."""
    manifest = json.loads(paths.ADAPTER_MANIFEST.read_text(encoding="utf-8"))
    manifest["files"] = {name: sha256_of(paths.ADAPTER / name) for name in manifest["files"]}
    paths.ADAPTER_MANIFEST.write_text(json.dumps(manifest), encoding="utf-8")


def edit_tensors(path: Path, change: Callable[[dict[str, Any]], Any]) -> None:
    tensors = {name: tensor.clone() for name, tensor in load_file(path).items()}
    change(tensors)
    path.unlink()  # a new file, since the old one may be mapped into memory
    save_file(tensors, path, metadata={"format": "pt"})


@pytest.mark.guard("files of the adapter")
@pytest.mark.guard("tensors of the adapter")
@pytest.mark.parametrize(
    ("part", "in_manifest", "message"),
    [
        ("classifier", False, "sha256"),
        ("classifier", True, "classifier"),
        ("lora_A", True, "lora_A"),
    ],
)
def test_an_adapter_that_lacks_tensors_is_refused(
    part: str, in_manifest: bool, message: str
) -> None:
    def thin(tensors: dict[str, Any]) -> None:
        for name in [name for name in tensors if part in name]:
            del tensors[name]

    edit_tensors(paths.ADAPTER_WEIGHTS, thin)
    if in_manifest:
        update_manifest()
    assert_refused(stage("evaluate_adapter"), 4, message, "dvc repro")


@pytest.mark.slow
def test_a_pooler_that_the_base_lacks_is_saved_with_the_adapter(
    models: dict[str, Path], params: Params
) -> None:
    source = str(models["bert-no-pooler"])
    save_params(changed(params, model__source=source, model__pooling="auto", train__epochs=1))
    for name in ("fetch_base", "evaluate_base", "train_lora", "evaluate_adapter"):
        assert_succeeded(stage(name))
    saved = load_file(paths.ADAPTER_WEIGHTS)
    assert any("pooler" in name for name in saved)
    assert any("classifier" in name for name in saved)


@pytest.mark.guard("base of the adapter")
def test_another_base_of_the_same_shape_is_refused() -> None:
    def nudge(tensors: dict[str, Any]) -> None:
        tensors[min(tensors)].view(-1)[0] += 1

    before = sha256_of(WEIGHTS)
    edit_tensors(WEIGHTS, nudge)
    output = assert_refused(
        stage("evaluate_adapter"), 4, "models/base/model.safetensors", "dvc checkout"
    )
    assert before[:12] in output
    assert sha256_of(WEIGHTS)[:12] in output


@pytest.mark.guard("labels of the adapter")
@pytest.mark.parametrize("labels", [["positive", "negative"], ["negative", "positive", "neutral"]])
def test_labels_in_another_order_or_number_are_refused(labels: list[str]) -> None:
    manifest = json.loads(paths.ADAPTER_MANIFEST.read_text(encoding="utf-8"))
    manifest["labels"] = labels
    paths.ADAPTER_MANIFEST.write_text(json.dumps(manifest), encoding="utf-8")
    assert_refused(stage("evaluate_adapter"), 4, str(labels), str(["negative", "positive"]))


HTML = b"<!DOCTYPE html><html><body>Not found</body></html>"
POINTER = b"version https://git-lfs.github.com/spec/v1\noid sha256:" + b"0" * 64 + b"\nsize 9\n"
DAMAGES: dict[str, Callable[[bytes], bytes]] = {
    "empty": lambda _: b"",
    "half": lambda content: content[: len(content) // 2],
    "html": lambda _: HTML,
    "pointer": lambda _: POINTER,
}


@pytest.mark.parametrize("damage", DAMAGES)
@pytest.mark.parametrize("in_manifest", [False, True])
def test_an_adapter_that_is_not_a_complete_safetensors_file_is_refused(
    damage: str, in_manifest: bool
) -> None:
    content = paths.ADAPTER_WEIGHTS.read_bytes()
    paths.ADAPTER_WEIGHTS.write_bytes(DAMAGES[damage](content))
    if in_manifest:
        update_manifest()
    output = assert_refused(stage("evaluate_adapter"), 4, str(paths.ADAPTER_WEIGHTS), "dvc repro")
    assert not in_manifest or f"{len(DAMAGES[damage](content))} bytes" in output


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_base_that_is_not_a_complete_safetensors_file_is_refused(damage: str) -> None:
    WEIGHTS.write_bytes(DAMAGES[damage](WEIGHTS.read_bytes()))
    assert_refused(
        stage("evaluate_base"), 4, "models/base: cannot be loaded", "dvc repro -f fetch_base"
    )


@pytest.mark.guard("finite weights")
def test_a_flipped_bit_and_a_weight_that_is_not_finite_are_refused() -> None:
    content = paths.ADAPTER_WEIGHTS.read_bytes()
    paths.ADAPTER_WEIGHTS.write_bytes(content[:-9] + bytes([content[-9] ^ 1]) + content[-8:])
    assert_refused(stage("evaluate_adapter"), 4, "sha256")

    def poison(tensors: dict[str, Any]) -> None:
        tensors[max(tensors)].view(-1)[0] = float("nan")

    paths.ADAPTER_WEIGHTS.write_bytes(content)
    edit_tensors(paths.ADAPTER_WEIGHTS, poison)
    update_manifest()
    assert_refused(stage("evaluate_adapter"), 4, "holds a value that is not finite")


class Evil:
    """Touches CANARY when it is unpickled."""

    def __reduce__(self) -> tuple[Any, ...]:
        return (Path.touch, (CANARY.absolute(),))


@pytest.mark.guard("no pickled weights")
def test_pickled_weights_are_refused_and_never_opened(params: Params) -> None:
    evil = Path("evil")
    shutil.copytree(paths.BASE_MODEL, evil)
    (evil / "model.safetensors").unlink()
    (evil / "pytorch_model.bin").write_bytes(pickle.dumps(Evil()))
    save_params(changed(params, model__source=str(evil)))
    assert_refused(stage("fetch_base"), 4, "pickle weights are refused")
    (paths.ADAPTER / "adapter_model.bin").write_bytes(pickle.dumps(Evil()))
    paths.ADAPTER_WEIGHTS.unlink()
    assert_refused(stage("evaluate_adapter"), 4, "adapter_model.safetensors")
    assert not CANARY.exists()
    pickle.loads(pickle.dumps(Evil()))  # noqa: S301  # shows that opening it leaves the canary
    assert CANARY.exists()


@pytest.mark.guard("no code of a model")
def test_a_model_that_brings_code_is_refused(params: Params) -> None:
    evil = Path("evil")
    shutil.copytree(paths.BASE_MODEL, evil)
    config = json.loads((evil / "config.json").read_text(encoding="utf-8"))
    config["auto_map"] = {"AutoModelForSequenceClassification": "modeling.Evil"}
    config["model_type"] = "evil"
    (evil / "config.json").write_text(json.dumps(config), encoding="utf-8")
    (evil / "modeling.py").write_text("open('CANARY', 'w')", encoding="utf-8")
    save_params(changed(params, model__source=str(evil)))
    assert_refused(stage("fetch_base"), 4, "code")
    assert not CANARY.exists()


def test_code_beside_a_model_that_transformers_knows_is_not_run(params: Params) -> None:
    odd = Path("odd")
    shutil.copytree(paths.BASE_MODEL, odd)
    for name, key in (("config.json", "AutoModel"), ("tokenizer_config.json", "AutoTokenizer")):
        content = json.loads((odd / name).read_text(encoding="utf-8"))
        content["auto_map"] = {key: ["modeling.Evil", None]}
        (odd / name).write_text(json.dumps(content), encoding="utf-8")
    (odd / "modeling.py").write_text("open('CANARY', 'w')", encoding="utf-8")
    save_params(changed(params, model__source=str(odd)))
    output = assert_succeeded(stage("fetch_base"))
    assert "config.json names code of its own (auto_map), which is not run" in output
    assert_succeeded(stage("evaluate_base"))
    assert not CANARY.exists()
