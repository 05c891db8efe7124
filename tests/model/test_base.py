"""Models of several architectures as classifiers: which part is the head, and what is refused."""

from __future__ import annotations

import json
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from stages.core import paths
from stages.core.errors import ModelError
from stages.model.device import resolve
from stages.model.load import load_base
from tests.support.tiny import COMPUTE, MODELS, NAMES

HEADS = {
    "bert": ("classifier",),
    "bert-no-pooler": ("bert.pooler", "classifier"),
    "roberta": ("classifier",),
    "mpnet": ("classifier",),
    "distilbert": ("classifier", "pre_classifier"),
    "electra": ("classifier",),
    "deberta": ("classifier", "pooler"),
    "albert": ("classifier",),
    "modernbert": ("classifier", "head"),
}
WEIGHTS = paths.BASE_MODEL / "model.safetensors"
CPU = resolve(COMPUTE)


def edit_json(name: str, **changes: Any) -> None:
    file = paths.BASE_MODEL / name
    content = json.loads(file.read_text(encoding="utf-8"))
    content = {k: v for k, v in {**content, **changes}.items() if v is not None}
    file.write_text(json.dumps(content), encoding="utf-8")


def refusal() -> str:
    with pytest.raises(ModelError) as caught:
        load_base(paths.BASE_MODEL, list(NAMES[:2]), 42, CPU)
    assert caught.value.exit_code == 4
    assert "models/base" in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize("name", MODELS)
def test_the_head_is_what_the_checkpoint_did_not_bring(load_tiny_base: Any, name: str) -> None:
    classifier = load_tiny_base(name)
    assert classifier.head == HEADS[name]
    brought = load_file(WEIGHTS)
    body, head = {}, classifier.head_state()
    for key, tensor in classifier.model.state_dict().items():
        known = brought.get(key, brought.get(key.partition(".")[2]))
        if known is not None and known.shape == tensor.shape and torch.equal(known, tensor):
            body[key] = tensor
    assert body.keys() | head.keys() == classifier.model.state_dict().keys()
    assert not body.keys() & head.keys()


def test_the_fresh_head_hangs_on_the_seed_alone(load_tiny_base: Any) -> None:
    first, again, other = (load_tiny_base("bert", seed=seed).head_state() for seed in (1, 1, 2))
    torch.rand(3)
    assert torch.equal(first["classifier.weight"], again["classifier.weight"])
    assert not torch.equal(first["classifier.weight"], other["classifier.weight"])


@pytest.mark.parametrize(
    ("name", "content"),
    [
        *(("config.json", content) for content in (None, b"", b"{", b"[1]", b"\xff")),
        *(("tokenizer.json", content) for content in (b"", b"[1]", b"\xff")),
        ("model.safetensors", None),
    ],
)
def test_a_missing_or_damaged_file_is_refused(
    load_tiny_base: Any, name: str, content: bytes | None
) -> None:
    load_tiny_base("bert")
    if content is None:
        (paths.BASE_MODEL / name).unlink()
    else:
        (paths.BASE_MODEL / name).write_bytes(content)
    refusal()


@pytest.mark.parametrize("kind", ["gpt2", "t5", "clip"])
def test_another_kind_of_model_is_refused(load_tiny_base: Any, kind: str) -> None:
    import transformers

    load_tiny_base("bert")
    small: dict[str, dict[str, Any]] = {
        "gpt2": {"n_embd": 32, "n_layer": 1, "n_head": 2, "vocab_size": 80},
        "t5": {"d_model": 32, "d_ff": 32, "num_layers": 1, "num_heads": 2, "vocab_size": 80},
        "clip": {"text_config": {"hidden_size": 32}, "vision_config": {"hidden_size": 32}},
    }
    if kind == "clip":
        edit_json("config.json", model_type="clip")
    else:
        config = transformers.AutoConfig.for_model(kind, **small[kind])
        model: Any = transformers.AutoModel
        model.from_config(config).save_pretrained(paths.BASE_MODEL)
    refusal()


def test_a_tokenizer_without_padding_is_refused(load_tiny_base: Any) -> None:
    load_tiny_base("bert")
    edit_json("tokenizer_config.json", pad_token=None)
    assert "padding" in refusal()


@pytest.mark.parametrize(("name", "longest"), [("bert", 66), ("roberta", 65), ("mpnet", 64)])
def test_no_text_is_longer_than_the_models_positions(
    load_tiny_base: Any, name: str, longest: int
) -> None:
    load_tiny_base(name)
    edit_json("tokenizer_config.json", model_max_length=None)
    classifier = load_base(paths.BASE_MODEL, list(NAMES[:2]), 42, CPU)
    assert classifier.tokenizer.model_max_length == longest
    batch = classifier.tokenizer("w1 " * 200, truncation=True, return_tensors="pt")
    assert batch["input_ids"].shape == (1, longest)
    with torch.no_grad():
        classifier.model(input_ids=batch["input_ids"])


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("rate", [0.0, 0.3])
def test_attention_dropout_is_what_the_params_say_in_every_architecture(
    load_tiny_base: Any, name: str, rate: float
) -> None:
    load_tiny_base(name)
    classifier = load_base(paths.BASE_MODEL, list(NAMES[:2]), 42, CPU, attention_dropout=rate)
    config = classifier.model.config
    fields = [
        f for f in ("attention_probs_dropout_prob", "attention_dropout") if hasattr(config, f)
    ]
    assert fields
    assert {getattr(config, field) for field in fields} == {rate}
