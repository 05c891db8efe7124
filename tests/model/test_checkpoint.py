"""What a checkpoint lacks, has too much of, or has damaged, is named: one line for each cause."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from safetensors.torch import load_file, save_file

from stages.core import paths
from stages.core.errors import ModelError
from stages.model.device import resolve
from stages.model.load import load_base
from tests.support.tiny import COMPUTE, NAMES

WEIGHTS = paths.BASE_MODEL / "model.safetensors"
CONFIG = paths.BASE_MODEL / "config.json"


def load() -> Any:
    return load_base(paths.BASE_MODEL, list(NAMES[:2]), 42, resolve(COMPUTE))


def faults() -> list[str]:
    with pytest.raises(ModelError) as caught:
        load()
    return [what for what, _ in caught.value.faults]


def edit(path: Path, **changes: Any) -> None:
    content = {**json.loads(path.read_text(encoding="utf-8")), **changes}
    path.write_text(json.dumps(content), encoding="utf-8")


def edit_weights(**changes: Any) -> dict[str, torch.Tensor]:
    """Add or replace tensors of the checkpoint; None removes one."""
    tensors = {**load_file(WEIGHTS), **changes}
    kept = {name: tensor for name, tensor in tensors.items() if tensor is not None}
    save_file(kept, WEIGHTS, metadata={"format": "pt"})
    return kept


@pytest.mark.parametrize(
    ("name", "fields", "left"),
    [
        ("bert", {"num_hidden_layers": 1}, "encoder.layer.1."),
        ("bert-no-pooler", {"num_hidden_layers": 1}, "bert.encoder.layer.1."),
        ("roberta", {"num_hidden_layers": 1}, "encoder.layer.1."),
        ("mpnet", {"num_hidden_layers": 1}, "encoder.layer.1."),
        ("distilbert", {"n_layers": 1}, "transformer.layer.1."),
        ("electra", {"num_hidden_layers": 1}, "encoder.layer.1."),
        ("deberta", {"num_hidden_layers": 1}, "encoder.layer.1."),
        ("modernbert", {"num_hidden_layers": 1, "layer_types": None}, "layers.1."),
    ],
)
def test_layers_that_the_model_does_not_use_are_refused(
    load_tiny_base: Any, name: str, fields: dict[str, Any], left: str
) -> None:
    load_tiny_base(name)
    edit(CONFIG, **fields)
    (fault,) = faults()
    assert "weights of the encoder that the model of config.json does not use" in fault
    assert left in fault


def test_a_projection_that_the_model_does_not_have_is_refused(load_tiny_base: Any) -> None:
    load_tiny_base("bert")
    edit_weights(**{"embeddings.projection.weight": torch.ones(2, 2)})
    (fault,) = faults()
    assert "has 1 weights of the encoder" in fault
    assert "for example embeddings.projection.weight" in fault


@pytest.mark.parametrize(
    "name",
    [
        "embeddings.position_ids",
        "bert.embeddings.position_ids",
        "bert.embeddings.token_type_ids",
        "bert.pooler.other.weight",
        "encoder.rotary_emb.inv_freq",
        "encoder.embed_positions.weight",
        "bert.embeddings.word_embeddings._weight",
        "cls.predictions.bias",
        "lm_head.dense.weight",
        "qa_outputs.weight",
        "discriminator_predictions.dense.weight",
    ],
)
def test_buffers_and_weights_of_another_task_are_left_out(load_tiny_base: Any, name: str) -> None:
    load_tiny_base("bert")
    edit_weights(**{name: torch.ones(1, 3)})
    load()


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.guard("finite base")
def test_weights_that_are_not_finite_are_named(
    load_tiny_base: Any, value: float, dtype: torch.dtype
) -> None:
    load_tiny_base("bert")
    tensors = {name: tensor.to(dtype) for name, tensor in load_file(WEIGHTS).items()}
    tensors["encoder.layer.0.output.dense.weight"][0, 0] = value
    edit_weights(**tensors)
    (fault,) = faults()
    assert "has 1 weights with values that are not finite numbers" in fault
    assert "for example bert.encoder.layer.0.output.dense.weight" in fault


def test_a_head_of_the_checkpoint_that_is_replaced_may_hold_anything(load_tiny_base: Any) -> None:
    load_tiny_base("bert")
    edit_weights(**{"classifier.weight": torch.full((5, 32), float("nan"))})
    assert load().head == ("classifier",)


def test_each_cause_has_a_line_of_its_own(load_tiny_base: Any) -> None:
    load_tiny_base("bert")
    broken = load_file(WEIGHTS)["encoder.layer.0.output.dense.bias"].fill_(float("nan"))
    edit_weights(
        **{
            "encoder.layer.0.output.dense.bias": broken,
            "encoder.layer.1.output.dense.bias": None,
            "embeddings.other.weight": torch.ones(1),
        }
    )
    edit(CONFIG, type_vocab_size=3)
    lacks, shape, left, damaged = faults()
    assert "lacks 1 weights of the encoder, for example bert.encoder.layer.1.output.dense" in lacks
    assert "bert.embeddings.token_type_embeddings.weight: it has [2, 32], not [3, 32]" in shape
    assert "embeddings.other.weight" in left
    assert "not finite" in damaged


def test_logits_that_are_not_finite_are_no_unsupported_head(load_tiny_base: Any) -> None:
    load_tiny_base("bert")
    huge = {n: t * 1e30 for n, t in load_file(WEIGHTS).items() if "dense.weight" in n}
    edit_weights(**huge)
    (fault,) = faults()
    assert "gives logits that are not finite numbers" in fault


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_a_checkpoint_in_half_precision_is_widened_exactly(
    load_tiny_base: Any, dtype: torch.dtype
) -> None:
    load_tiny_base("bert")
    edit(CONFIG, dtype=str(dtype).removeprefix("torch."))
    stored = edit_weights(**{name: t.to(dtype) for name, t in load_file(WEIGHTS).items()})
    body = load().model.bert.state_dict()
    assert {tensor.dtype for tensor in body.values() if tensor.is_floating_point()} == {
        torch.float32
    }
    assert all(torch.equal(body[name], tensor.float()) for name, tensor in stored.items())
    # As the model card says it, for the same probabilities elsewhere:
    elsewhere = transformers.AutoModelForSequenceClassification.from_pretrained(
        paths.BASE_MODEL, num_labels=2, dtype="float32"
    ).bert.state_dict()
    assert all(torch.equal(body[name], elsewhere[name]) for name in stored)


def test_shards_are_loaded_as_one_file_is(load_tiny_base: Any) -> None:
    whole = load_tiny_base("bert").model.bert.state_dict()
    tensors = load_file(WEIGHTS)
    WEIGHTS.unlink()
    names = sorted(tensors)
    parts = {"one.safetensors": names[::2], "two.safetensors": names[1::2]}
    for file, held in parts.items():
        part = {name: tensors[name] for name in held}
        save_file(part, paths.BASE_MODEL / file, metadata={"format": "pt"})
    index = {
        "metadata": {},
        "weight_map": {name: file for file, held in parts.items() for name in held},
    }
    (paths.BASE_MODEL / "model.safetensors.index.json").write_text(json.dumps(index))
    sharded = load().model.bert.state_dict()
    assert all(torch.equal(sharded[name], tensor) for name, tensor in whole.items())
