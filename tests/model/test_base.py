"""A base as a classifier: which part is the head, how its halves run apart, what it may hold."""

from __future__ import annotations

import json
from typing import Any

import pytest
import torch
import transformers
from safetensors.torch import load_file, save_file

from stages.core import paths
from stages.model.classifier import features, head_logits, probe_batch
from tests.support.adapters import inputs_of, load
from tests.support.model_files import edit_json, edit_tensors
from tests.support.tiny import MODELS, NAMES

HEADS = {  # the head, and the pooler's modules as they are seen in the model
    "bert": (("classifier",), ("pooler",)),
    "bert-no-pooler": (("bert.pooler", "classifier"), ("pooler",)),
    "roberta": (("classifier",), ()),
    "mpnet": (("classifier",), ()),
    "distilbert": (("classifier", "pre_classifier"), ()),
    "electra": (("classifier",), ()),
    "deberta": (("classifier", "pooler"), ()),
    "albert": (("classifier",), ("pooler", "pooler_activation")),
    "modernbert": (("classifier", "head"), ()),
    "ALBERT": (("albert.pooler", "classifier"), ("pooler", "pooler_activation")),
    "BigBird": (("classifier",), ("pooler", "activation")),
    "NomicBERT": (("classifier", "nomic_bert.pooler"), ("pooler",)),
}
WEIGHTS, CONFIG = paths.BASE_MODEL / "model.safetensors", paths.BASE_MODEL / "config.json"


@pytest.mark.parametrize("name", HEADS)
def test_the_head_is_what_the_checkpoint_did_not_bring(load_tiny_base: Any, name: str) -> None:
    classifier = load_tiny_base(name)
    assert (classifier.head, classifier.pooler) == HEADS[name]
    assert classifier.has_new_pooler == any(".pooler" in part for part in classifier.head)
    if name == "NomicBERT":
        return  # its checkpoint has other names
    brought = load_file(WEIGHTS)
    body, head = {}, classifier.head_state()
    for key, tensor in classifier.model.state_dict().items():
        known = brought.get(key, brought.get(key.partition(".")[2]))
        if known is not None and known.shape == tensor.shape and torch.equal(known, tensor):
            body[key] = tensor
    assert body.keys() | head.keys() == classifier.model.state_dict().keys()
    assert not body.keys() & head.keys()


def test_pooling_is_what_the_configuration_says_and_needs_no_pooler(load_tiny_base: Any) -> None:
    assert load_tiny_base("modernbert").pooling == "mean"
    first = load_tiny_base("modernbert", pooling="first")
    assert first.model.config.classifier_pooling == "cls"
    auto = load_tiny_base("bert")
    assert auto.pooling == "auto"
    assert auto.model.bert.pooler is not None
    assert not list(load_tiny_base("bert", pooling="mean").model.bert.pooler.parameters())
    assert load_tiny_base("bert-no-pooler", pooling="mean").head == ("classifier",)


def test_the_fresh_head_hangs_on_the_seed_alone(load_tiny_base: Any) -> None:
    first, again, other = (load_tiny_base("bert", seed=seed).head_state() for seed in (1, 1, 2))
    assert torch.equal(first["classifier.weight"], again["classifier.weight"])
    assert not torch.equal(first["classifier.weight"], other["classifier.weight"])


@pytest.mark.parametrize("name", MODELS)
def test_body_and_head_run_apart_are_the_model_and_the_head_learns_alone(
    load_tiny_base: Any, name: str
) -> None:
    classifier = load_tiny_base(name, NAMES)
    classifier.model.eval()
    with torch.no_grad():
        whole = classifier.model(**inputs_of(classifier)).logits
        seen = features(classifier, inputs_of(classifier))
    apart = head_logits(classifier, *seen)
    assert whole.shape == (3, 3)
    assert whole.std() > 0.01
    torch.testing.assert_close(apart, whole, rtol=1e-5, atol=1e-6)
    torch.autograd.backward(apart[:, 0].sum())
    touched = {n for n, p in classifier.model.named_parameters() if p.grad is not None}
    assert touched == set(classifier.head_state())
    with torch.no_grad():
        again = classifier.model(**inputs_of(classifier)).logits
    assert torch.equal(again, whole)  # running the head alone left the model as it was


def test_the_probe_is_padded_and_has_no_token_types(load_tiny_base: Any) -> None:
    batch = probe_batch(load_tiny_base("bert").tokenizer)
    assert set(batch) == {"input_ids", "attention_mask"}
    assert batch["attention_mask"].sum(1).tolist() == [3, 5]
    assert batch["input_ids"].dtype == torch.int64


@pytest.mark.parametrize("name", MODELS)
def test_attention_dropout_is_what_the_params_say_in_every_architecture(
    load_tiny_base: Any, name: str
) -> None:
    load_tiny_base(name)
    config = load(attention_dropout=0.3).model.config
    names = ("attention_probs_dropout_prob", "attention_dropout")
    assert {getattr(config, each) for each in names if hasattr(config, each)} == {0.3}


@pytest.mark.parametrize(
    "name",
    [
        *("embeddings.position_ids", "bert.embeddings.position_ids"),
        *("bert.embeddings.token_type_ids", "bert.pooler.other.weight"),
        *("encoder.rotary_emb.inv_freq", "encoder.embed_positions.weight"),
        *("bert.embeddings.word_embeddings._weight", "cls.predictions.bias"),
        *("lm_head.dense.weight", "qa_outputs.weight"),
        "discriminator_predictions.dense.weight",
        "classifier.weight",  # a head that is replaced may hold anything
    ],
)
def test_buffers_and_weights_of_another_task_are_left_out(load_tiny_base: Any, name: str) -> None:
    load_tiny_base("bert")
    edit_tensors(WEIGHTS, lambda found: found.update({name: torch.full((5, 32), float("nan"))}))
    assert load().head == ("classifier",)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_a_checkpoint_in_half_precision_is_widened_exactly(
    load_tiny_base: Any, dtype: torch.dtype
) -> None:
    load_tiny_base("bert")
    edit_json(CONFIG, dtype=str(dtype).removeprefix("torch."))
    edit_tensors(WEIGHTS, lambda found: found.update({n: t.to(dtype) for n, t in found.items()}))
    stored, body = load_file(WEIGHTS), load().model.bert.state_dict()
    # As the model card says it, for the same probabilities elsewhere:
    elsewhere = transformers.AutoModelForSequenceClassification.from_pretrained(
        paths.BASE_MODEL, num_labels=2, dtype="float32"
    ).bert.state_dict()
    for name, tensor in stored.items():
        assert body[name].dtype == torch.float32
        assert torch.equal(body[name], tensor.float())
        assert torch.equal(body[name], elsewhere[name])


def test_shards_are_loaded_as_one_file_is(load_tiny_base: Any) -> None:
    whole = load_tiny_base("bert").model.bert.state_dict()
    tensors = load_file(WEIGHTS)
    WEIGHTS.unlink()
    names = sorted(tensors)
    parts = {"one.safetensors": names[::2], "two.safetensors": names[1::2]}
    for file, held in parts.items():
        part = {name: tensors[name] for name in held}
        save_file(part, paths.BASE_MODEL / file, metadata={"format": "pt"})
    held_by = {name: file for file, held in parts.items() for name in held}
    index = json.dumps({"metadata": {}, "weight_map": held_by})
    (paths.BASE_MODEL / "model.safetensors.index.json").write_text(index, encoding="utf-8")
    sharded = load().model.bert.state_dict()
    assert all(torch.equal(sharded[name], tensor) for name, tensor in whole.items())
