"""Which modules LoRA adapts, how much trains, and which params do not fit the model."""

from __future__ import annotations

from typing import Any

import pytest

from stages.core.errors import ParamsError
from stages.core.params import Params
from stages.model.classifier import Classifier, within
from stages.model.lora import attach_lora, describe_lora, linear_names, resolve_targets
from tests.support.tiny import MODELS

BERT = ["key", "query", "value"]
BERT_MLP = ["0.output.dense", "1.output.dense", "intermediate.dense"]
ROLES = {  # attention; what all-linear has beside it; mlp, by the shortest names that mean it alone
    "bert": (BERT, ["dense"], BERT_MLP),
    "bert-no-pooler": (BERT, ["dense"], BERT_MLP),
    "roberta": (BERT, ["dense"], BERT_MLP),
    "mpnet": (["k", "q", "v"], ["dense", "o"], ["intermediate.dense", "output.dense"]),
    "distilbert": (["k_lin", "q_lin", "v_lin"], ["lin1", "lin2", "out_lin"], ["lin1", "lin2"]),
    "electra": (BERT, ["dense", "embeddings_project"], BERT_MLP),
    "deberta": (["key_proj", "query_proj", "value_proj"], ["dense", "pos_query_proj"], BERT_MLP),
    "albert": (
        BERT,
        ["dense", "embedding_hidden_mapping_in", "ffn", "ffn_output", "pooler"],
        ["ffn", "ffn_output"],
    ),
    "modernbert": (["Wqkv"], ["Wi", "Wo"], ["Wi", "mlp.Wo"]),
}


def adapted(classifier: Classifier) -> set[str]:
    return set(classifier.model.base_model.targeted_module_names)


@pytest.fixture
def attach(load_tiny_base: Any, params: Params) -> Any:
    """Return a function that attaches LoRA with some fields to an architecture's tiny model."""

    def attached(name: str, **fields: Any) -> Classifier:
        return attach_lora(load_tiny_base(name), params.lora.model_copy(update=fields))

    return attached


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("role", ["attention", "mlp", "all-linear"])
def test_a_role_means_its_layers_in_every_architecture(
    load_tiny_base: Any, attach: Any, name: str, role: str
) -> None:
    attention, others, mlp = ROLES[name]
    layers = 1 if name == "albert" else 2  # its layers share one set of weights
    base = load_tiny_base(name)
    body = linear_names(base)
    names = {"attention": attention, "mlp": mlp, "all-linear": sorted(attention + others)}[role]
    assert resolve_targets(base, role) == names
    found = adapted(attach(name, target_modules=role))
    inside = {path for path in found if "attention" in path or "attn" in path}
    if role == "attention":
        assert inside == found
        assert {path.rpartition(".")[2] for path in found} == set(attention)
        assert len(found) == len(attention) * layers
    elif role == "mlp":
        assert (len(found), len(inside)) == (2 * layers, 0)
    else:
        assert found == set(body)
        assert not any(within(path, base.head) for path in body)


LAYER = "bert.encoder.layer."


@pytest.mark.parametrize(
    ("fields", "found"),
    [
        (
            {"target_modules": "mlp", "layers_to_transform": [1]},
            {f"{LAYER}1.intermediate.dense", f"{LAYER}1.output.dense"},
        ),
        (
            {"target_modules": ["value", f"{LAYER}1.output.dense", "value"]},
            {f"{LAYER}1.output.dense", *(f"{LAYER}{n}.attention.self.value" for n in (0, 1))},
        ),
    ],
)
def test_layers_and_names_of_the_users_own_are_taken(
    attach: Any, fields: dict[str, Any], found: set[str]
) -> None:
    assert adapted(attach("bert", **fields)) == found


def test_a_name_that_the_head_shares_is_adapted_outside_of_it(attach: Any) -> None:
    dense = attach("roberta", target_modules=["dense"])
    assert len(adapted(dense)) == 2 * 3
    assert describe_lora(dense) == "LoRA r=4 on dense (6 modules), head"


REFUSED = "lora: PEFT refuses these fields: "


@pytest.mark.parametrize(
    ("name", "fields", "message"),
    [
        ("bert", {"target_modules": ["quary"]}, "lora.target_modules: ['quary'] matches no module"),
        ("bert", {"target_modules": ["query", "uery"]}, "lora.target_modules: ['uery'] matches"),
        ("bert", {"target_modules": ["LayerNorm"]}, REFUSED),
        ("bert", {"rank_pattern": {"quary": 8}}, f"{REFUSED}The following rank_p"),
        ("bert", {"rank_pattern": {"output.dense": 8}}, f"{REFUSED}The following"),
        ("bert", {"alpha_pattern": {"key": 4.0, "kei": 8.0}}, f"{REFUSED}The fol"),
        ("bert", {"alpha_pattern": {"(": 8.0}}, f"{REFUSED}missing ), unterminat"),
        (
            "bert",
            {"layers_to_transform": [2]},
            "lora.layers_to_transform: there is no layer 2. Fix",
        ),
        ("bert", {"modules_to_save": ["poolar"]}, "lora.modules_to_save: poolar matches no module"),
        ("bert", {"modules_to_save": ["pool.*"]}, "lora.modules_to_save: pool.* matches no module"),
        *(
            (name, {"target_modules": names}, f"lora.target_modules: {inside}: in the head")
            for name, names, inside in (
                ("bert", ["classifier"], "classifier"),
                ("roberta", ["query", "out_proj"], "out_proj"),
                ("distilbert", ["pre_classifier", "classifier"], "classifier, pre_classifier"),
                ("modernbert", ["Wqkv", "head.dense"], "head.dense"),
                ("bert-no-pooler", ["query", "bert.pooler.dense"], "bert.pooler.dense"),
            )
        ),
    ],
)
def test_a_field_that_does_not_fit_the_model_is_refused(
    attach: Any, name: str, fields: dict[str, Any], message: str
) -> None:
    with pytest.raises(ParamsError) as caught:
        attach(name, **fields)
    assert f"error: params.yaml: {message}" in str(caught.value)
    assert caught.value.exit_code == 2


def test_all_faults_are_reported_together(attach: Any) -> None:
    with pytest.raises(ParamsError) as caught:
        attach("distilbert", layers_to_transform=[2, 3], modules_to_save=["x"])
    assert len(caught.value.faults) == 3


HEAD = 32 * 2 + 2
NEW = 32 * 32 + 32


@pytest.mark.parametrize(
    ("name", "fields", "count"),
    [
        ("bert", {}, 2 * 3 * 4 * (32 + 32) + HEAD),
        ("bert-no-pooler", {}, 2 * 3 * 4 * (32 + 32) + NEW + HEAD),
        ("roberta", {"r": 1}, 2 * 3 * 1 * (32 + 32) + NEW + HEAD),
        ("bert", {"layers_to_transform": [1]}, 1 * 3 * 4 * (32 + 32) + HEAD),
        ("bert", {"rank_pattern": {"layer.1.*query": 9}}, (5 * 4 + 9) * (32 + 32) + HEAD),
        ("bert", {"bias": "lora_only"}, 2 * 3 * (4 * (32 + 32) + 32) + HEAD),
        ("bert", {"use_dora": True}, 2 * 3 * (4 * (32 + 32) + 32) + HEAD),
        ("bert", {"modules_to_save": ["bert.pooler"]}, 1536 + NEW + HEAD),
    ],
)
def test_just_so_many_parameters_train(
    attach: Any, name: str, fields: dict[str, Any], count: int
) -> None:
    assert attach(name, **fields).model.get_nb_trainable_parameters()[0] == count
