"""The trained classifier as a folder: what is written, and what is refused when it is loaded."""

from __future__ import annotations

import json
import shutil
from contextlib import chdir
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from stages.core import paths
from stages.core.artefacts import sha256_of
from stages.core.errors import HostError, ModelError
from stages.core.params import LoraParams, Params
from stages.model.classifier import Classifier
from stages.model.device import resolve, set_up
from stages.model.load import load_base
from stages.model.lora import attach_lora
from stages.model.saved import CONFIG, MANIFEST, WEIGHTS, load_adapter, save_adapter
from stages.rows.prepared import read_split
from stages.scoring.logits import predict_logits
from tests.support.adapters import logits, read_the_mean, shaken
from tests.support.tiny import COMPUTE, MODELS, NAMES

CPU = resolve(COMPUTE)
BERT = ["key", "query", "value"]


@pytest.fixture
def lora(params: Params) -> LoraParams:
    return params.lora


@pytest.mark.parametrize("name", MODELS)
def test_an_adapter_comes_back_as_it_was(load_tiny_base: Any, lora: LoraParams, name: str) -> None:
    saved = shaken(attach_lora(load_tiny_base(name), lora))
    save_adapter(saved, "lora", "trained", CPU, paths.ADAPTER, paths.BASE_MODEL, 32)
    loaded = load_adapter(load_tiny_base(name, seed=3), paths.ADAPTER, paths.BASE_MODEL)
    assert not loaded.model.training
    assert torch.equal(logits(loaded), logits(saved))


@pytest.mark.parametrize(
    "changes",
    [
        {"bias": "all"},
        {"bias": "lora_only"},
        {"use_dora": True},
        {"use_rslora": True, "lora_alpha": 0.5},
        {"init_lora_weights": "gaussian"},
        {"init_lora_weights": "pissa"},
        {"init_lora_weights": "olora"},
        {"init_lora_weights": "orthogonal"},
        {"init_lora_weights": False},
        {"inference_mode": True},
        {"modules_to_save": ["bert.pooler"], "target_modules": "all-linear"},
        {"layers_to_transform": [1], "rank_pattern": {"query": 2}, "alpha_pattern": {"key": 3.5}},
    ],
    ids=str,
)
def test_every_field_survives_saving(
    load_tiny_base: Any, lora: LoraParams, changes: dict[str, Any]
) -> None:
    base = load_tiny_base("bert")
    before = logits(base)
    saved = attach_lora(base, lora.model_copy(update=changes))
    if changes.get("init_lora_weights") is not False:
        torch.testing.assert_close(logits(saved), before, rtol=1e-3, atol=1e-4)
    shaken(saved)
    save_adapter(saved, "lora", "trained", CPU, paths.ADAPTER, paths.BASE_MODEL, 32)
    loaded = load_adapter(load_tiny_base("bert", seed=3), paths.ADAPTER, paths.BASE_MODEL)
    assert torch.equal(logits(loaded), logits(saved))
    config = json.loads((paths.ADAPTER / CONFIG).read_text(encoding="utf-8"))
    for field in changes.keys() - {"inference_mode", "modules_to_save", "target_modules"}:
        assert config[field] == changes[field]


def test_another_process_gives_the_very_logits_of_the_training(
    trained_adapter: tuple[Path, Classifier], other_process_outputs: Path, params: Params
) -> None:
    device = set_up(params.compute)
    with chdir(other_process_outputs):
        texts = read_split(paths.TEST, list(NAMES[:2])).texts
        in_memory = predict_logits(trained_adapter[1], texts, 32, device, "test")
    assert in_memory.shape == (20, 2)
    assert torch.equal(torch.load(other_process_outputs / "0.pt"), in_memory)


def test_the_file_holds_lora_and_head_alone(finished_run: Path) -> None:
    layers = [
        f"base_model.model.bert.encoder.layer.{n}.attention.self.{name}.lora_{side}.weight"
        for n in (0, 1)
        for name in BERT
        for side in "AB"
    ]
    head = [f"base_model.model.classifier.{kind}" for kind in ("weight", "bias")]
    assert sorted(load_file(finished_run / paths.ADAPTER / WEIGHTS)) == sorted([*layers, *head])
    assert sorted(path.name for path in (finished_run / paths.ADAPTER).iterdir()) == sorted(
        # The card is by stage compare.
        [CONFIG, WEIGHTS, MANIFEST, paths.ADAPTER_MODEL_CONFIG.name, "README.md"]
    )


@pytest.mark.usefixtures("project")
def test_plain_peft_loads_the_folder(params: Params) -> None:
    from peft import PeftModel
    from transformers import AutoModelForSequenceClassification

    own = load_base(paths.BASE_MODEL, list(NAMES[:2]), 5, CPU, "mean")
    own = load_adapter(own, paths.ADAPTER, paths.BASE_MODEL)
    bare = read_the_mean(
        AutoModelForSequenceClassification.from_pretrained(paths.BASE_MODEL, num_labels=2)
    )
    plain = PeftModel.from_pretrained(bare, paths.ADAPTER).eval()
    texts = read_split(paths.TEST, list(NAMES[:2])).texts
    batch = own.tokenizer(texts, padding=True, return_tensors="pt")
    with torch.no_grad():
        theirs = plain(input_ids=batch["input_ids"], attention_mask=batch["attention_mask"]).logits
    ours = predict_logits(own, texts, 32, set_up(params.compute), "test")
    torch.testing.assert_close(theirs, ours, rtol=0, atol=1e-5)
    assert ours.std() > 0.1


def test_the_config_has_no_entry_twice_and_no_path_of_this_machine(finished_run: Path) -> None:
    config = json.loads((finished_run / paths.ADAPTER / CONFIG).read_text(encoding="utf-8"))
    assert config["modules_to_save"] == ["classifier", "score"]
    assert config["target_modules"] == BERT
    assert config["base_model_name_or_path"] == "models/base"
    assert str(finished_run.parent) not in json.dumps(config)


def test_the_manifest_names_what_the_adapter_belongs_to(finished_run: Path) -> None:
    folder = finished_run / paths.ADAPTER
    metrics = json.loads((finished_run / paths.ADAPTER_METRICS).read_text(encoding="utf-8"))
    assert json.loads((folder / MANIFEST).read_text(encoding="utf-8")) == {
        "method": "lora",
        "kept": "trained",
        "precision": "fp32",
        "base": {f.name: sha256_of(f) for f in (finished_run / paths.BASE_MODEL).iterdir()},
        "head": ["classifier"],
        "labels": list(NAMES[:2]),
        "pooling": "mean",
        "max_length": 32,
        "temperature": metrics["temperature"],
        "files": {name: sha256_of(folder / name) for name in (CONFIG, WEIGHTS)},
    }


def refusal(labels: tuple[str, ...] = NAMES[:2]) -> str:
    base = load_base(paths.BASE_MODEL, list(labels), 42, CPU, "mean")
    with pytest.raises(ModelError) as caught:
        load_adapter(base, paths.ADAPTER, paths.BASE_MODEL)
    assert caught.value.exit_code == 4
    return str(caught.value)


def seal() -> None:
    """Make the manifest agree with the files, so that the next check is reached."""
    manifest = json.loads((paths.ADAPTER / MANIFEST).read_text(encoding="utf-8"))
    manifest["files"] = {name: sha256_of(paths.ADAPTER / name) for name in (CONFIG, WEIGHTS)}
    (paths.ADAPTER / MANIFEST).write_text(json.dumps(manifest), encoding="utf-8")


def rewrite(tensors: dict[str, torch.Tensor]) -> None:
    save_file(tensors, paths.ADAPTER / WEIGHTS, metadata={"format": "pt"})
    seal()


@pytest.mark.usefixtures("project")
def test_another_base_is_refusal() -> None:
    file = paths.BASE_MODEL / "model.safetensors"
    tensors = load_file(file)
    tensors["embeddings.word_embeddings.weight"][0, 0] += 1e-6
    save_file(tensors, file, metadata={"format": "pt"})
    assert f"{file}: sha256 {sha256_of(file)[:12]}, the adapter's manifest says" in refusal()


@pytest.mark.usefixtures("project")
@pytest.mark.parametrize("name", ["tokenizer.json", "tokenizer_config.json", "config.json"])
def test_another_tokenizer_or_config_is_refusal(name: str) -> None:
    with (paths.BASE_MODEL / name).open("a", encoding="utf-8") as file:
        file.write("\n")
    assert f"models/base/{name}: sha256" in refusal()


@pytest.mark.usefixtures("project")
def test_a_file_more_or_less_in_the_base_is_refusal() -> None:
    (paths.BASE_MODEL / "vocab.txt").write_text("w1\n", encoding="utf-8")
    assert "models/base/vocab.txt: sha256 " in refusal()
    assert "manifest says None" in refusal()


@pytest.mark.usefixtures("project")
@pytest.mark.parametrize("labels", [("positive", "negative"), ("no", "yes"), NAMES])
def test_other_labels_are_refusal(labels: tuple[str, ...]) -> None:
    message = refusal(labels)
    assert "models/adapter: trained for the labels ['negative', 'positive'], the data" in message
    assert str(list(labels)) in message


@pytest.mark.usefixtures("project")
@pytest.mark.parametrize("name", [CONFIG, WEIGHTS, MANIFEST])
def test_a_missing_file_is_refusal(name: str) -> None:
    (paths.ADAPTER / name).unlink()
    assert f"models/adapter/{name}: missing" in refusal()


@pytest.mark.usefixtures("project")
def test_a_missing_folder_names_the_stage_that_makes_it() -> None:
    shutil.rmtree(paths.ADAPTER)
    base = load_base(paths.BASE_MODEL, list(NAMES[:2]), 42, CPU, "mean")
    with pytest.raises(HostError, match=r"models/adapter not found.*dvc repro train_lora"):
        load_adapter(base, paths.ADAPTER, paths.BASE_MODEL)


@pytest.mark.usefixtures("project")
@pytest.mark.parametrize("name", [CONFIG, WEIGHTS])
@pytest.mark.parametrize("place", [0, 9, -1], ids=["first", "tenth", "last"])
def test_a_flipped_bit_is_refusal(name: str, place: int) -> None:
    content = bytearray((paths.ADAPTER / name).read_bytes())
    content[place] ^= 1
    (paths.ADAPTER / name).write_bytes(content)
    assert f"models/adapter/{name}: sha256" in refusal()


@pytest.mark.usefixtures("project")
@pytest.mark.parametrize("kept", [0, 5, 200, -1])
def test_a_cut_file_is_refused_with_or_without_its_hash(kept: int) -> None:
    file = paths.ADAPTER / WEIGHTS
    file.write_bytes(file.read_bytes()[:kept])
    assert f"{file}: sha256" in refusal()
    seal()
    message = refusal()
    assert f"{file}: {file.stat().st_size} bytes, not a complete safetensors file" in message
    assert "dvc repro -f train_lora" in message


@pytest.mark.usefixtures("project")
@pytest.mark.filterwarnings("ignore:Found missing adapter keys")  # PEFT's own word for it
@pytest.mark.parametrize("lost", ["classifier.weight", "layer.1.attention.self.value.lora_B"])
def test_a_missing_tensor_is_refusal(lost: str) -> None:
    tensors = load_file(paths.ADAPTER / WEIGHTS)
    rewrite({name: tensor for name, tensor in tensors.items() if lost not in name})
    message = refusal()
    assert "models/adapter" in message
    assert lost in message


@pytest.mark.usefixtures("project")
def test_a_tensor_too_many_is_refusal() -> None:
    rewrite({**load_file(paths.ADAPTER / WEIGHTS), "base_model.model.extra": torch.zeros(1)})
    assert "1 tensors do not match the model, for example base_model.model.extra" in refusal()


@pytest.mark.usefixtures("project")
@pytest.mark.parametrize("part", ["classifier.weight", "layer.0.attention.self.key.lora_A.weight"])
def test_a_tensor_of_another_shape_is_refusal(part: str) -> None:
    tensors = load_file(paths.ADAPTER / WEIGHTS)
    name = next(name for name in tensors if part in name)
    rewrite({**tensors, name: torch.zeros(1, 3)})
    assert "models/adapter" in refusal()


@pytest.mark.usefixtures("project")
@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_weight_that_is_not_finite_is_refusal(value: float) -> None:
    tensors = load_file(paths.ADAPTER / WEIGHTS)
    name = sorted(tensors)[-1]
    tensors[name].view(-1)[-1] = value
    rewrite(tensors)
    assert f"models/adapter/{WEIGHTS}: {name} holds a value that is not finite" in refusal()


@pytest.mark.usefixtures("project")
@pytest.mark.parametrize("content", ["", "{", "[]", "{}", '{"peft_type": "LORA"}', '{"r": "x"}'])
def test_a_damaged_config_is_refusal(content: str) -> None:
    (paths.ADAPTER / CONFIG).write_text(content, encoding="utf-8")
    seal()
    assert "models/adapter" in refusal()


@pytest.mark.usefixtures("project")
@pytest.mark.parametrize("content", ["", "{", "[]", "3", "{}", '{"base": {}}', "\xff"])
def test_a_damaged_manifest_is_refusal(content: str) -> None:
    (paths.ADAPTER / MANIFEST).write_text(content, encoding="latin-1")
    assert f"models/adapter/{MANIFEST}: not a manifest of this project" in refusal()


@pytest.mark.usefixtures("project")
@pytest.mark.parametrize(
    ("part", "value"),
    [
        ("base", None),
        ("files", {}),
        ("files", 3),
        ("labels", 1),
        ("base", []),
        ("method", "other"),
        ("precision", None),
    ],
)
def test_a_manifest_with_a_part_lost_is_refusal(part: str, value: Any) -> None:
    manifest = json.loads((paths.ADAPTER / MANIFEST).read_text(encoding="utf-8"))
    manifest[part] = value
    (paths.ADAPTER / MANIFEST).write_text(json.dumps(manifest), encoding="utf-8")
    assert "models/adapter" in refusal()
