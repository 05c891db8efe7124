"""The trained classifier as a folder: what is written, and what is refused when it is loaded."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from stages.core import paths
from stages.core.artefacts import sha256_of
from stages.core.params import LoraParams, Params
from stages.model.lora import attach_lora
from stages.model.saved import CONFIG, MANIFEST, WEIGHTS, load_adapter, save_adapter
from tests.support.adapters import CPU, logits, shaken
from tests.support.tiny import NAMES

BERT = ["key", "query", "value"]


@pytest.fixture
def lora(params: Params) -> LoraParams:
    return params.lora


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
        {"modules_to_save": ["embeddings"]},
        {"modules_to_save": ["word_embeddings", "embeddings"]},
        {"modules_to_save": ["bert.encoder.layer.1", "dense"]},
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


def test_a_module_in_the_head_is_not_saved_twice(load_tiny_base: Any, lora: LoraParams) -> None:
    inside = lora.model_copy(update={"modules_to_save": ["out_proj"]})
    classifier = attach_lora(load_tiny_base("roberta"), inside)
    assert set(classifier.model.peft_config["default"].modules_to_save) == {"classifier", "score"}
    norms = lora.model_copy(update={"modules_to_save": ["norm"]})
    modern = attach_lora(load_tiny_base("modernbert"), norms)
    saved = modern.model.peft_config["default"].modules_to_save
    assert "model.embeddings.norm" in saved
    assert "head.norm" not in saved
    assert torch.equal(logits(modern), logits(load_tiny_base("modernbert")))


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


def test_the_config_has_no_entry_twice_and_no_path_of_this_machine(finished_run: Path) -> None:
    config = json.loads((finished_run / paths.ADAPTER / CONFIG).read_text(encoding="utf-8"))
    assert config["modules_to_save"] == ["classifier", "score"]
    assert config["target_modules"] == BERT
    assert config["base_model_name_or_path"] == "models/base"  # its author's: the Hub has none
    assert str(finished_run.parent) not in json.dumps(config)


@pytest.mark.parametrize(
    ("on_hub", "name", "revision"),
    [
        ("owner/base@abc", "owner/base", "abc"),
        ("owner/base", "owner/base", None),
        (None, "models/base", None),
    ],
)
def test_the_base_is_called_as_the_hub_calls_it(
    load_tiny_base: Any, lora: LoraParams, on_hub: str | None, name: str, revision: str | None
) -> None:
    saved, folder = attach_lora(load_tiny_base("bert"), lora), paths.ADAPTER
    save_adapter(saved, "lora", "base", CPU, folder, paths.BASE_MODEL, 32, on_hub=on_hub)
    config = json.loads((folder / CONFIG).read_text(encoding="utf-8"))
    assert (config["base_model_name_or_path"], config["revision"]) == (name, revision)
    loaded = load_adapter(load_tiny_base("bert", seed=3), folder, paths.BASE_MODEL)
    assert torch.equal(logits(loaded), logits(saved))


def test_the_manifest_names_what_the_adapter_belongs_to(finished_run: Path) -> None:
    folder = finished_run / paths.ADAPTER
    manifest = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
    assert 0.1 < manifest.pop("temperature") < 10
    made_of = manifest.pop("made_of")
    assert made_of["training rows"] == sha256_of(finished_run / paths.TRAIN)
    assert set(made_of) == {"training rows", "validation rows", "labels", "code"}
    assert manifest == {
        "method": "lora",
        "kept": "trained",
        "precision": "fp32",
        "base": {f.name: sha256_of(f) for f in (finished_run / paths.BASE_MODEL).iterdir()},
        "head": ["classifier"],
        "labels": list(NAMES[:2]),
        "pooling": "mean",
        "max_length": 32,
        "files": {name: sha256_of(folder / name) for name in (CONFIG, WEIGHTS)},
    }
