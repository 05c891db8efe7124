"""Each method of PEFT by its type: it trains, is saved, loaded, merged; what cannot is refused."""

from __future__ import annotations

import copy
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.nn.functional import cross_entropy

from stages.core.errors import ModelError, ParamsError
from stages.core.params import Params, PeftParams
from stages.model.any_peft import attach_peft, describe_peft, types
from stages.model.classifier import Classifier
from stages.model.device import resolve
from stages.model.saved import check_loaded, load_adapter, save_adapter
from stages.tools.export import merged
from tests.support.adapters import TEXTS, logits
from tests.support.architectures import ARCHITECTURES, EXCEPTIONS
from tests.support.tiny import COMPUTE, changed

LABELS = ("no", "yes")
DEVICE = resolve(COMPUTE)
# What PEFT's defaults are too large for in layers of width 32 and 16.
SIZES: dict[str, dict[str, Any]] = {
    "C3A": {"block_size": 16},
    "FOURIERFT": {"n_frequency": 100},
    "MISS": {"r": 8},
    "OFT": {"oft_block_size": 16},
    "PSOFT": {"r": 8},
    "ROAD": {"group_size": 16},
    "SHIRA": {"r": 4},
    "VBLORA": {"vector_length": 16},
    "WAVEFT": {"n_frequency": 100},
}
NO_MERGE = {"LILY": "not supported", "BEFT": "no bias"}
NOT_THE_BASE = {"C3A", "FOURIERFT", "VBLORA"}  # by their start
ODD = ("ConvBERT", "ESM")
QUICK = ("IA3", "LN_TUNING", "VERA", "OFT", "C3A", "LILY")


def peft_of(kind: str, **fields: Any) -> PeftParams:
    return PeftParams(**{"type": kind, **SIZES.get(kind, {}), **fields})


def train_save_load_merge(
    loaded_base: Classifier,
    kind: str,
    folder: Path,
    model: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Do all that is done with a method."""

    def base() -> Classifier:
        return replace(loaded_base, model=copy.deepcopy(loaded_base.model))

    before = logits(base())
    classifier: Classifier = attach_peft(base(), peft_of(kind), bf16=False)
    same = torch.allclose(logits(classifier), before, rtol=0, atol=1e-4 * float(before.abs().max()))
    if kind != "UNILORA":  # whose difference is about as large as the limit
        assert same == ("does not start as the base" not in capsys.readouterr().out)
        assert same == (kind not in NOT_THE_BASE)
    trains = {n: p for n, p in classifier.model.named_parameters() if p.requires_grad}
    started = {name: parameter.detach().clone() for name, parameter in trains.items()}
    optimiser = torch.optim.AdamW(trains.values(), lr=0.01)
    batch = classifier.tokenizer(TEXTS, padding=True, return_tensors="pt")
    for _ in range(2):
        out = classifier.model(batch["input_ids"], attention_mask=batch["attention_mask"]).logits
        cross_entropy(out, torch.tensor([0, 1, 0])).backward()  # type: ignore[no-untyped-call]  # torch left it untyped
        optimiser.step()
        optimiser.zero_grad()
    moved = {name for name, value in started.items() if not torch.equal(value, trains[name])}
    assert any(within_head(name, classifier) for name in moved)
    assert any(not within_head(name, classifier) for name in moved)
    save_adapter(classifier, "peft", "trained", DEVICE, folder, model, 32)
    loaded = load_adapter(base(), folder, model)
    check_loaded(classifier, loaded, TEXTS, DEVICE)
    expected = logits(loaded)
    if kind == "LILY" or (kind == "BEFT" and no_biases(loaded)):
        with pytest.raises(ModelError, match=NO_MERGE[kind]):
            merged(loaded)
        return
    plain = merged(loaded)(batch["input_ids"], attention_mask=batch["attention_mask"]).logits
    assert torch.allclose(plain, expected, rtol=0, atol=1e-4 * float(expected.abs().max()))


def no_biases(classifier: Classifier) -> bool:
    linear = [m for m in classifier.model.modules() if isinstance(m, torch.nn.Linear)]
    return any(layer.bias is None for layer in linear)


def within_head(name: str, classifier: Classifier) -> bool:
    return any(f".{module}." in name for module in classifier.head)


@pytest.mark.parametrize("kind", QUICK)
def test_a_method_trains_loads_and_merges(
    load_tiny_base: Any,
    models: dict[str, Path],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    kind: str,
) -> None:
    base = load_tiny_base("bert", LABELS)
    train_save_load_merge(base, kind, tmp_path / "adapter", models["bert"], capsys)


@pytest.mark.slow
@pytest.mark.parametrize("name", ARCHITECTURES)
def test_every_method_on_every_architecture(
    load_tiny_base: Any,
    models: dict[str, Path],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    name: str,
) -> None:
    pooling = "mean" if EXCEPTIONS.get(name, ("",))[0] == "auto" else "auto"
    base = load_tiny_base(name, LABELS, pooling=pooling)
    failed = []
    for kind in types():
        try:
            train_save_load_merge(base, kind, tmp_path / kind, models[name], capsys)
        except (AssertionError, ParamsError, ModelError) as error:
            failed.append(f"{kind}: {error}"[:300])
    if name in ODD:  # layers of one to twelve outputs, which not every block or rank fits
        assert len(failed) < len(types()) / 2
        assert all("error: params.yaml: peft.type: " in said for said in failed)
    else:
        assert not failed


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"type": "IA4"}, "peft.type: PEFT has no IA4, did you mean IA3? Fix: use one of ADAMSS"),
        ({"type": "LORA"}, "peft.type: LORA: it has a section of its own. Fix: set train.method"),
        ({"type": "ADALORA"}, "peft.type: ADALORA: it keeps what it knows of the ranks in memory"),
        ({"type": "PREFIX_TUNING"}, "peft.type: PREFIX_TUNING: it puts states of its own before"),
        ({"type": "XLORA"}, "peft.type: XLORA: it has no modules_to_save, so the head could not"),
        ({"rnk": 4}, "peft.rnk: IA3 has no such field. Fix: use one of fan_in_fan_out, feedf"),
        (
            {"type": "VERA", "vera_dropuot": 0.1},
            "peft.vera_dropuot: VERA has no such field, did you mean vera_dropout?",
        ),
        (
            {"type": "VERA", "r": "8"},
            "peft.r: Input should be a valid integer, got '8'. Fix: PEFT'",
        ),
        ({"task_type": "SEQ_CLS"}, "peft.task_type: this project sets it. Fix: use one of"),
        ({"type": "VERA", "r": 0}, "peft.type: VERA: "),
        ({"type": "MISS"}, "peft.type: MISS: `r` (64) must be less than or equal to in_features"),
        ({"target_modules": ["nosuch"]}, "peft.target_modules: ['nosuch'] matches no module"),
        ({"target_modules": ["classifier"]}, "peft.target_modules: classifier: in the head"),
        (
            {"type": "VERA", "layers_to_transform": [7]},
            "peft.type: VERA: layers_to_transform: [7] has none of the target_modules",
        ),
    ],
)
def test_what_a_method_cannot_use_is_refused(
    load_tiny_base: Any, fields: dict[str, Any], said: str
) -> None:
    with pytest.raises(ParamsError) as caught:
        attach_peft(load_tiny_base("bert", LABELS), PeftParams(**fields), bf16=False)
    assert f"error: params.yaml: {said}" in str(caught.value)


def test_what_cannot_compute_in_bf16_is_refused(load_tiny_base: Any) -> None:
    with pytest.raises(ParamsError, match=r"OFT: on this model it cannot .*precision to fp32"):
        attach_peft(load_tiny_base("deberta", LABELS), peft_of("OFT"), bf16=True)


def test_fields_roles_and_layers_reach_peft(load_tiny_base: Any) -> None:
    def adapted(**fields: Any) -> tuple[Any, set[str]]:
        classifier = attach_peft(load_tiny_base("bert", LABELS), PeftParams(**fields), bf16=False)
        return classifier, set(classifier.model.peft_config["default"].target_modules)

    ia3, modules = adapted(
        type="IA3",
        target_modules=["key", "value", "output.dense"],
        feedforward_modules=["layer.0.output.dense"],
    )
    layer = "bert.encoder.layer.0"
    assert {name for name in modules if name.startswith(layer)} == {
        *(f"{layer}.attention.self.{name}" for name in ("key", "value")),
        *(f"{layer}.{name}" for name in ("attention.output.dense", "output.dense")),
    }
    assert ia3.model.peft_config["default"].feedforward_modules == {f"{layer}.output.dense"}
    vera, modules = adapted(
        type="VERA", target_modules="attention", layers_to_transform=[1], r=3, modules_to_save=None
    )
    assert modules == {
        f"bert.encoder.layer.1.attention.self.{n}" for n in ("query", "key", "value")
    }
    assert vera.model.peft_config["default"].r == 3
    assert describe_peft(vera) == "VERA on key, query, value (3 modules), head"
    norms, modules = adapted(type="LN_TUNING")
    assert len(modules) == 5
    assert all(name.endswith("LayerNorm") for name in modules)
    assert describe_peft(norms) == "LN_TUNING on LayerNorm (5 modules), head"


def test_fields_beside_the_type_are_params(params: Params) -> None:
    vera = changed(params, train__method="peft", peft__type="VERA", peft__r=16)
    assert vera.peft.model_dump() == {"type": "VERA", "target_modules": "auto", "r": 16}
