"""Which modules LoRA adapts, how much trains, and which params do not fit the model."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from stages.core.errors import ParamsError
from stages.core.params import LoraParams, Params
from stages.model.classifier import Classifier, within
from stages.model.lora import attach_lora, describe_lora, linear_names, resolve_targets
from tests.support.adapters import logits, shaken
from tests.support.tiny import MODELS

BERT = ["key", "query", "value"]
ROLES = {  # attention, and what all-linear has beside it
    "bert": (BERT, ["dense"]),
    "bert-no-pooler": (BERT, ["dense"]),
    "roberta": (BERT, ["dense"]),
    "mpnet": (["k", "q", "v"], ["dense", "o"]),
    "distilbert": (["k_lin", "q_lin", "v_lin"], ["lin1", "lin2", "out_lin"]),
    "electra": (BERT, ["dense", "embeddings_project"]),
    "deberta": (["key_proj", "query_proj", "value_proj"], ["dense", "pos_query_proj"]),
    "albert": (BERT, ["dense", "embedding_hidden_mapping_in", "ffn", "ffn_output", "pooler"]),
    "modernbert": (["Wqkv"], ["Wi", "Wo"]),
}
BERT_MLP = ["0.output.dense", "1.output.dense", "intermediate.dense"]
MLP = {  # by the shortest names that mean no other layer
    "bert": BERT_MLP,
    "bert-no-pooler": BERT_MLP,
    "roberta": BERT_MLP,
    "mpnet": ["intermediate.dense", "output.dense"],
    "distilbert": ["lin1", "lin2"],
    "electra": BERT_MLP,
    "deberta": BERT_MLP,
    "albert": ["ffn", "ffn_output"],
    "modernbert": ["Wi", "mlp.Wo"],
}
LAYERS = {"albert": 1}  # its layers share one set of weights


@pytest.fixture
def lora(params: Params) -> LoraParams:
    return params.lora


def adapted(classifier: Classifier) -> set[str]:
    return set(classifier.model.base_model.targeted_module_names)


@pytest.mark.parametrize("name", MODELS)
def test_attention_is_query_key_and_value_alone(
    load_tiny_base: Any, lora: LoraParams, name: str
) -> None:
    base = load_tiny_base(name)
    assert resolve_targets(base, "attention") == ROLES[name][0]
    found = adapted(attach_lora(base, lora))
    assert len(found) == len(ROLES[name][0]) * LAYERS.get(name, 2)
    assert {path.rpartition(".")[2] for path in found} == set(ROLES[name][0])


@pytest.mark.parametrize("name", MODELS)
def test_mlp_is_the_two_layers_after_each_attention(
    load_tiny_base: Any, lora: LoraParams, name: str
) -> None:
    base = load_tiny_base(name)
    assert resolve_targets(base, "mlp") == MLP[name]
    found = adapted(attach_lora(base, lora.model_copy(update={"target_modules": "mlp"})))
    assert len(found) == 2 * LAYERS.get(name, 2)
    assert not [path for path in found if "attention" in path or "attn" in path]


def test_mlp_of_some_layers_alone(load_tiny_base: Any, lora: LoraParams) -> None:
    changes = {"target_modules": "mlp", "layers_to_transform": [1]}
    upper = attach_lora(load_tiny_base("bert"), lora.model_copy(update=changes))
    assert adapted(upper) == {
        "bert.encoder.layer.1.intermediate.dense",
        "bert.encoder.layer.1.output.dense",
    }


@pytest.mark.parametrize("name", MODELS)
def test_all_linear_is_every_linear_layer_but_the_head(
    load_tiny_base: Any, lora: LoraParams, name: str
) -> None:
    base = load_tiny_base(name)
    body = linear_names(base)
    assert body
    assert not any(within(path, base.head) for path in body)
    assert resolve_targets(base, "all-linear") == sorted(ROLES[name][0] + ROLES[name][1])
    wide = lora.model_copy(update={"target_modules": "all-linear"})
    assert adapted(attach_lora(base, wide)) == set(body)


def test_names_of_the_users_own_are_taken(load_tiny_base: Any, lora: LoraParams) -> None:
    names = ["value", "bert.encoder.layer.1.output.dense", "value"]
    chosen = attach_lora(load_tiny_base("bert"), lora.model_copy(update={"target_modules": names}))
    layers = "bert.encoder.layer."
    assert adapted(chosen) == {
        *(f"{layers}{n}.attention.self.value" for n in (0, 1)),
        f"{layers}1.output.dense",
    }


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"target_modules": ["quary"]}, "lora.target_modules: ['quary'] matches no module"),
        ({"target_modules": ["query", "uery"]}, "lora.target_modules: ['uery'] matches"),
        ({"target_modules": ["LayerNorm"]}, "lora: PEFT refuses these fields"),
        ({"target_modules": ["classifier"]}, "lora.target_modules: classifier: in the head"),
        ({"rank_pattern": {"quary": 8}}, "lora: PEFT refuses these fields: The following rank_p"),
        ({"rank_pattern": {"output.dense": 8}}, "lora: PEFT refuses these fields: The following"),
        ({"alpha_pattern": {"key": 4.0, "kei": 8.0}}, "lora: PEFT refuses these fields: The fol"),
        ({"alpha_pattern": {"(": 8.0}}, "lora: PEFT refuses these fields: missing ), unterminat"),
        ({"layers_to_transform": [2]}, "lora.layers_to_transform: there is no layer 2. Fix: this"),
        ({"modules_to_save": ["poolar"]}, "lora.modules_to_save: poolar matches no module"),
        ({"modules_to_save": ["pool.*"]}, "lora.modules_to_save: pool.* matches no module"),
    ],
)
def test_a_field_that_does_not_fit_the_model_is_refused(
    load_tiny_base: Any, lora: LoraParams, changes: dict[str, Any], message: str
) -> None:
    with pytest.raises(ParamsError) as caught:
        attach_lora(load_tiny_base("bert"), lora.model_copy(update=changes))
    assert f"error: params.yaml: {message}" in str(caught.value)
    assert caught.value.exit_code == 2


def test_all_faults_are_reported_together(load_tiny_base: Any, lora: LoraParams) -> None:
    changes = {"layers_to_transform": [2, 3], "modules_to_save": ["x"]}
    with pytest.raises(ParamsError) as caught:
        attach_lora(load_tiny_base("distilbert"), lora.model_copy(update=changes))
    assert len(caught.value.faults) == 3


@pytest.mark.parametrize(
    ("name", "targets", "inside"),
    [
        ("roberta", ["query", "out_proj"], "out_proj"),
        ("distilbert", ["q_lin", "pre_classifier", "classifier"], "classifier, pre_classifier"),
        ("modernbert", ["Wqkv", "head.dense"], "head.dense"),
        ("bert-no-pooler", ["query", "bert.pooler.dense"], "bert.pooler.dense"),
    ],
)
def test_a_layer_of_the_head_is_no_target(
    load_tiny_base: Any, lora: LoraParams, name: str, targets: list[str], inside: str
) -> None:
    base = load_tiny_base(name)
    with pytest.raises(ParamsError) as caught:
        attach_lora(base, lora.model_copy(update={"target_modules": targets}))
    assert f"lora.target_modules: {inside}: in the head" in str(caught.value)
    assert f"Fix: leave {inside} out" in str(caught.value)
    rest = [target for target in targets if target not in inside.split(", ")]
    assert adapted(attach_lora(base, lora.model_copy(update={"target_modules": rest})))


def test_a_name_that_the_head_shares_is_adapted_outside_of_it(
    load_tiny_base: Any, lora: LoraParams
) -> None:
    dense = attach_lora(
        load_tiny_base("roberta"), lora.model_copy(update={"target_modules": ["dense"]})
    )
    assert len(adapted(dense)) == 2 * 3
    assert describe_lora(dense) == "LoRA r=4 on dense (6 modules), head"


@pytest.mark.parametrize(
    ("name", "changes", "count"),
    [
        ("bert", {}, 2 * 3 * 4 * (32 + 32) + 32 * 2 + 2),
        ("bert-no-pooler", {}, 2 * 3 * 4 * (32 + 32) + 32 * 32 + 32 + 32 * 2 + 2),
        ("roberta", {"r": 1}, 2 * 3 * 1 * (32 + 32) + 32 * 32 + 32 + 32 * 2 + 2),
        ("bert", {"layers_to_transform": [1]}, 1 * 3 * 4 * (32 + 32) + 32 * 2 + 2),
        ("bert", {"rank_pattern": {"layer.1.*query": 9}}, (5 * 4 + 9) * (32 + 32) + 32 * 2 + 2),
        ("bert", {"bias": "lora_only"}, 2 * 3 * (4 * (32 + 32) + 32) + 32 * 2 + 2),
        ("bert", {"use_dora": True}, 2 * 3 * (4 * (32 + 32) + 32) + 32 * 2 + 2),
        ("bert", {"modules_to_save": ["bert.pooler"]}, 1536 + 32 * 32 + 32 + 32 * 2 + 2),
    ],
)
def test_just_so_many_parameters_train(
    load_tiny_base: Any, lora: LoraParams, name: str, changes: dict[str, Any], count: int
) -> None:
    classifier = attach_lora(load_tiny_base(name), lora.model_copy(update=changes))
    assert classifier.model.get_nb_trainable_parameters()[0] == count


@pytest.mark.parametrize("name", MODELS)
def test_an_untrained_adapter_of_all_layers_changes_no_bit_of_the_logits(
    load_tiny_base: Any, lora: LoraParams, name: str
) -> None:
    base = load_tiny_base(name)
    before = logits(base)
    fresh = attach_lora(base, lora.model_copy(update={"target_modules": "all-linear"}))
    assert torch.equal(logits(fresh), before)
    assert not torch.equal(logits(shaken(fresh)), before)
