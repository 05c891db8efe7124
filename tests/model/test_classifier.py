"""Models of several architectures: which part is the head, and that it can run apart."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from stages.core import paths
from stages.core.errors import HostError, ModelError
from stages.model.classifier import (
    HEAD_FILE,
    Classifier,
    features,
    head_logits,
    load_base,
    load_head,
    load_tensors,
    reset_head,
    save_head,
)
from tests.support.tiny import MODELS, NAMES

HEADS = {
    "bert": ("classifier",),
    "bert-no-pooler": ("bert.pooler", "classifier"),
    "roberta": ("classifier",),
    "mpnet": ("classifier",),
    "distilbert": ("classifier", "pre_classifier"),
    "electra": ("classifier",),
    "deberta": ("classifier", "pooler"),
    "albert": ("classifier",),
}
WEIGHTS = paths.BASE_MODEL / "model.safetensors"


def inputs(classifier: Classifier) -> dict[str, torch.Tensor]:
    texts = ["good w1 w2", "bad w3", "w4 a longer text w5 w6"]
    batch = classifier.tokenizer(texts, padding=True, return_tensors="pt")
    return {name: batch[name] for name in ("input_ids", "attention_mask")}


def edit_json(name: str, **changes: Any) -> None:
    file = paths.BASE_MODEL / name
    content = json.loads(file.read_text(encoding="utf-8"))
    content = {k: v for k, v in {**content, **changes}.items() if v is not None}
    file.write_text(json.dumps(content), encoding="utf-8")


def refused() -> str:
    with pytest.raises(ModelError) as caught:
        load_base(paths.BASE_MODEL, list(NAMES[:2]), 42)
    assert caught.value.exit_code == 4
    assert "models/base" in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize("name", MODELS)
def test_the_head_is_what_the_checkpoint_did_not_bring(standing: Any, name: str) -> None:
    classifier = standing(name)
    assert classifier.head == HEADS[name]
    brought = load_file(WEIGHTS)
    body, head = {}, classifier.head_state()
    for key, tensor in classifier.model.state_dict().items():
        known = brought.get(key, brought.get(key.partition(".")[2]))
        if known is not None and known.shape == tensor.shape and torch.equal(known, tensor):
            body[key] = tensor
    assert body.keys() | head.keys() == classifier.model.state_dict().keys()
    assert not body.keys() & head.keys()


@pytest.mark.parametrize("name", MODELS)
def test_body_and_head_run_apart_give_the_models_own_logits(standing: Any, name: str) -> None:
    classifier = standing(name, NAMES)
    classifier.model.eval()
    with torch.no_grad():
        whole = classifier.model(**inputs(classifier)).logits
        apart = head_logits(classifier, *features(classifier, inputs(classifier)))
        again = classifier.model(**inputs(classifier)).logits
    assert whole.shape == (3, 3)
    assert whole.std() > 0.01
    torch.testing.assert_close(apart, whole, rtol=1e-5, atol=1e-6)
    assert torch.equal(again, whole)  # running the head alone left the model as it was


@pytest.mark.parametrize("name", MODELS)
def test_the_head_learns_through_the_replay(standing: Any, name: str) -> None:
    classifier = standing(name)
    classifier.model.eval()
    with torch.no_grad():
        seen = features(classifier, inputs(classifier))
    torch.autograd.backward(head_logits(classifier, *seen)[:, 0].sum())
    touched = {n for n, p in classifier.model.named_parameters() if p.grad is not None}
    assert touched == set(classifier.head_state())


def test_the_model_knows_its_labels(standing: Any) -> None:
    classifier = standing("bert", NAMES)
    assert classifier.labels == NAMES
    assert classifier.model.config.id2label == dict(enumerate(NAMES))
    assert classifier.model.config.label2id == {name: n for n, name in enumerate(NAMES)}


def test_the_fresh_head_hangs_on_the_seed_alone(standing: Any) -> None:
    first, again, other = (standing("bert", seed=seed).head_state() for seed in (1, 1, 2))
    torch.rand(3)
    assert torch.equal(first["classifier.weight"], again["classifier.weight"])
    assert not torch.equal(first["classifier.weight"], other["classifier.weight"])


@pytest.mark.parametrize("name", ["bert-no-pooler", "distilbert"])
def test_a_reset_head_is_as_fresh_as_the_first(standing: Any, name: str) -> None:
    classifier = standing(name)
    body = {k: v.clone() for k, v in classifier.model.state_dict().items()}
    reset_head(classifier, 7)
    first = classifier.head_state()
    reset_head(classifier, 8)
    other = classifier.head_state()
    reset_head(classifier, 7)
    for key, tensor in classifier.head_state().items():
        assert torch.equal(tensor, first[key])
        if key.endswith("weight"):
            assert not torch.equal(tensor, other[key])
            assert float(tensor.std()) == pytest.approx(0.2, rel=0.5)  # the initializer's
    for key, tensor in classifier.model.state_dict().items():
        assert key in first or torch.equal(tensor, body[key])


@pytest.mark.parametrize(
    "lost",
    [
        "encoder.layer.1.attention.self.query.weight",
        "encoder.layer.0.output.LayerNorm.bias",
        "embeddings.word_embeddings.weight",
        "embeddings.LayerNorm.weight",
    ],
)
def test_a_checkpoint_that_lacks_a_weight_of_the_body_is_refused(standing: Any, lost: str) -> None:
    standing("bert")
    tensors = load_file(WEIGHTS)
    del tensors[lost]
    save_file(tensors, WEIGHTS, metadata={"format": "pt"})
    message = refused()
    assert f"lacks 1 weights of the body, for example bert.{lost}" in message


def test_a_weight_of_another_shape_is_refused(standing: Any) -> None:
    standing("bert")
    edit_json("config.json", intermediate_size=48)
    assert "lacks 6 weights of the body" in refused()


def test_an_empty_checkpoint_is_refused(standing: Any) -> None:
    standing("distilbert")
    save_file({"other": torch.zeros(1)}, WEIGHTS, metadata={"format": "pt"})
    assert "weights of the body" in refused()


@pytest.mark.parametrize("bytes_kept", [0, 7, 100, 2000])
def test_a_cut_checkpoint_is_refused(standing: Any, bytes_kept: int) -> None:
    standing("bert")
    WEIGHTS.write_bytes(WEIGHTS.read_bytes()[:bytes_kept])
    assert "dvc repro -f fetch_base" in refused()


@pytest.mark.parametrize("name", ["config.json", "tokenizer.json"])
@pytest.mark.parametrize("content", [b"", b"{", b"[1]", b"\xff"])
def test_a_damaged_json_file_is_refused(standing: Any, name: str, content: bytes) -> None:
    standing("bert")
    (paths.BASE_MODEL / name).write_bytes(content)
    refused()


@pytest.mark.parametrize("lost", ["config.json", "model.safetensors"])
def test_a_missing_file_is_refused(standing: Any, lost: str) -> None:
    standing("bert")
    (paths.BASE_MODEL / lost).unlink()
    refused()


def test_a_missing_folder_names_the_stage_that_makes_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(HostError, match="dvc repro fetch_base"):
        load_base(paths.BASE_MODEL, ["a", "b"], 1)


@pytest.mark.parametrize("kind", ["gpt2", "t5", "clip"])
def test_another_kind_of_model_is_refused(standing: Any, kind: str) -> None:
    import transformers

    standing("bert")
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
    refused()


def test_a_tokenizer_without_padding_is_refused(standing: Any) -> None:
    standing("bert")
    edit_json("tokenizer_config.json", pad_token=None)
    assert "padding" in refused()


def test_a_tokenizer_of_another_model_is_refused(standing: Any) -> None:
    standing("bert")
    content = json.loads((paths.BASE_MODEL / "tokenizer.json").read_text(encoding="utf-8"))
    content["model"]["vocab"]["beyond"] = 10_000
    edit_json("tokenizer.json", model=content["model"])
    assert "10001" in refused()


@pytest.mark.parametrize(("name", "longest"), [("bert", 66), ("roberta", 65), ("mpnet", 64)])
def test_no_text_is_longer_than_the_models_positions(
    standing: Any, name: str, longest: int
) -> None:
    standing(name)
    edit_json("tokenizer_config.json", model_max_length=None)
    classifier = load_base(paths.BASE_MODEL, list(NAMES[:2]), 42)
    assert classifier.tokenizer.model_max_length == longest
    batch = classifier.tokenizer("w1 " * 200, truncation=True, return_tensors="pt")
    assert batch["input_ids"].shape == (1, longest)
    with torch.no_grad():
        classifier.model(input_ids=batch["input_ids"])


def test_the_tokenizers_own_limit_stays(standing: Any) -> None:
    assert standing("bert").tokenizer.model_max_length == 64


def test_a_head_comes_back_as_it_was_saved(standing: Any) -> None:
    saved = standing("distilbert", seed=1)
    save_head(saved, paths.HEAD)
    loaded = standing("distilbert", seed=2)
    load_head(loaded, paths.HEAD)
    assert saved.head_state().keys() == loaded.head_state().keys()
    for key, tensor in saved.head_state().items():
        assert torch.equal(tensor, loaded.head_state()[key])


@pytest.mark.parametrize("labels", [NAMES, ("one",)])
def test_a_head_for_other_classes_is_refused(standing: Any, labels: tuple[str, ...]) -> None:
    save_head(standing("bert", labels), paths.HEAD)
    with pytest.raises(ModelError, match="models/head: belongs to another") as caught:
        load_head(standing("bert"), paths.HEAD)
    assert "dvc repro -f evaluate_base" in str(caught.value)


def test_a_damaged_head_is_refused(standing: Any) -> None:
    classifier = standing("bert")
    save_head(classifier, paths.HEAD)
    whole = (paths.HEAD / HEAD_FILE).read_bytes()
    (paths.HEAD / HEAD_FILE).write_bytes(whole[:-1])
    with pytest.raises(ModelError, match=f"{HEAD_FILE}: {len(whole) - 1} bytes"):
        load_head(classifier, paths.HEAD)
    (paths.HEAD / HEAD_FILE).unlink()
    with pytest.raises(ModelError, match=f"{HEAD_FILE}: 0 bytes"):
        load_head(classifier, paths.HEAD)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_tensor_that_is_not_finite_is_refused(tmp_path: Path, value: float) -> None:
    file = tmp_path / "x.safetensors"
    save_file({"fine": torch.zeros(2), "sick": torch.tensor([1.0, value])}, file)
    with pytest.raises(ModelError, match=r"sick holds a value that is not finite.* Fix: mend it"):
        load_tensors(file, "mend it")
