"""Every cell of models/README.md's table of architectures, run on a tiny random model."""

from __future__ import annotations

import json
import re
from contextlib import chdir
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoConfig, AutoModel, AutoModelForSequenceClassification

from stages.core import paths
from stages.core.errors import ModelError
from stages.core.params import Params
from stages.model.classifier import Classifier
from stages.model.fast import speed_up
from stages.model.load import load_base
from stages.model.lora import attach_lora, linear_names
from stages.model.saved import load_adapter, save_adapter
from stages.reporting.page import model_card
from stages.scoring.logits import predict_logits
from stages.sources.model_folder import REASONS, refuse_unsupported
from stages.training import trainer
from tests.support.adapters import BF16, CPU, TEXTS, inputs_of, logits, shaken
from tests.support.architectures import (
    ARCHITECTURES,
    BLOCK,
    EXCEPTIONS,
    README,
    table_of_architectures,
)
from tests.support.example_results import example
from tests.support.tiny import MODELS, changed, run_all, save_params, save_table, table

LABELS = ("no", "yes")
TOLERANCE = 1e-4  # of the largest logit
ROUNDING = 0.1  # of the largest logit, in bf16
NAMES = pytest.mark.parametrize("name", ARCHITECTURES)
# The others' layers, heads and pooling are tested with the models of tests/support/tiny.py.
QUICK = [
    pytest.param(name, marks=() if name == "ALBERT" else pytest.mark.slow) for name in ARCHITECTURES
]


def pooling_of(name: str) -> Any:
    return "mean" if EXCEPTIONS.get(name, ("",))[0] == "auto" else "auto"


def attached(load_tiny_base: Any, params: Params, name: str, **changes: Any) -> Classifier:
    base = load_tiny_base(name, LABELS, pooling=pooling_of(name))
    return attach_lora(base, params.lora.model_copy(update=changes))


def assert_near(one: torch.Tensor, other: torch.Tensor, share: float = TOLERANCE) -> None:
    assert one.shape == other.shape
    assert float((one - other).abs().max()) <= share * float(other.abs().max())


@pytest.mark.slow
@NAMES
def test_the_full_pipeline(
    models: dict[str, Path],
    params: Params,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    name: str,
) -> None:
    # One pass may leave random weights worse than the base; what is asked here is whether they run.
    monkeypatch.setattr(trainer, "finds_worse", lambda *_: False)
    wanted = changed(
        params,
        model__source=str(models[name]),
        model__pooling=pooling_of(name),
        lora__target_modules="all-linear",
        train__epochs=1,
    )
    with chdir(tmp_path):
        save_params(wanted)
        save_table(table(classes=2))
        run_all(wanted)
        scores = json.loads(paths.COMPARISON.read_text(encoding="utf-8"))
        assert scores["rows"] == 20
        base, adapter = (
            p.read_bytes() for p in (paths.BASE_PREDICTIONS, paths.ADAPTER_PREDICTIONS)
        )
    assert base != adapter


@pytest.mark.parametrize("name", QUICK)
@pytest.mark.parametrize("role", ["attention", "mlp", "all-linear"])
def test_every_role_is_adapted_fast_and_saved(
    load_tiny_base: Any, params: Params, capsys: pytest.CaptureFixture[str], name: str, role: str
) -> None:
    trained = shaken(attached(load_tiny_base, params, name, target_modules=role))
    found = set(trained.model.base_model.targeted_module_names)
    inside = {"q", "k", "v", "query", "key", "value", "in_proj", "Wqkv"}
    linear = set(linear_names(load_tiny_base(name, LABELS, pooling=pooling_of(name))))
    if role == "all-linear":
        assert found == linear
    elif role == "mlp":
        assert found
        assert {path for path in linear - found if re.search(r"\.\d+\.", path)} == {
            path for path in linear if "attention" in path or "attn" in path
        }
    else:
        leaves = {path.rpartition(".")[2] for path in found}
        assert all(leaf.partition("_")[0] in inside or leaf in inside for leaf in leaves)
        assert any("in_proj" in leaf or "Wqkv" in leaf for leaf in leaves) or len(leaves) == 3
    before = logits(trained)
    save_adapter(trained, "lora", "trained", CPU, paths.ADAPTER, paths.BASE_MODEL, 32)
    again = load_adapter(
        load_tiny_base(name, LABELS, seed=3, pooling=pooling_of(name)),
        paths.ADAPTER,
        paths.BASE_MODEL,
    )
    assert torch.equal(logits(again), before)
    speed_up(trained, CPU, 0)
    assert_near(logits(trained), before)
    assert "not fused" not in capsys.readouterr().out


@pytest.mark.parametrize(
    ("name", "pooling"),
    [
        *(pytest.param(name, pooling_of(name), marks=pytest.mark.slow) for name in ARCHITECTURES),
        *(("bert", pooling) for pooling in ("auto", "first", "mean")),
        *(("bert-no-pooler", "auto"), ("distilbert", "first"), ("modernbert", "first")),
        *(("modernbert", "auto"), ("ALBERT", "mean")),
    ],
)
def test_the_lines_of_the_card_and_a_merge_give_the_logits_of_what_was_trained(
    load_tiny_base: Any, params: Params, name: str, pooling: Any
) -> None:
    settings = changed(
        params,
        data__source="movie-reviews",
        model__pooling=pooling,
        lora__target_modules="all-linear",
    )
    base = load_tiny_base(name, LABELS, pooling=pooling)
    trained = shaken(attach_lora(base, settings.lora))
    save_adapter(trained, "lora", "trained", CPU, paths.ADAPTER, paths.BASE_MODEL, 32)
    card = model_card(example(settings, list(LABELS)))
    (code,) = re.findall(r"```python\n(.*?)```", card, re.DOTALL)
    lines: dict[str, Any] = {}
    exec(code.replace('["a text"]', f"{TEXTS!r}, padding=True"), lines)  # noqa: S102  # the card's
    with torch.no_grad():
        assert_near(lines["model"](**lines["inputs"]).logits, logits(trained))
        merged = lines["model"].merge_and_unload().eval()
        assert_near(merged(**lines["inputs"]).logits, logits(trained))
    assert merged.config.id2label == dict(enumerate(LABELS))


@pytest.mark.parametrize("name", QUICK)
def test_in_bf16_it_is_as_near_to_fp32_as_plain_transformers(
    load_tiny_base: Any, params: Params, name: str
) -> None:
    texts = [text for text, _ in table(classes=2, rows=20)]
    plain = shaken(attached(load_tiny_base, params, name))
    if EXCEPTIONS.get(name, ("",))[0] == "bf16":
        with pytest.raises(ModelError, match=r"cannot compute in bf16.*compute\.precision to fp32"):
            load_base(paths.BASE_MODEL, list(LABELS), 42, BF16)
        return
    exact = predict_logits(plain, texts, 32, CPU, "x")
    rounded = predict_logits(plain, texts, 32, BF16, "x")
    fast = shaken(attached(load_tiny_base, params, name))
    speed_up(fast, BF16, 0)
    ours = predict_logits(fast, texts, 32, BF16, "x")
    assert not torch.equal(ours, exact)
    assert_near(rounded, exact, ROUNDING)
    assert_near(ours, exact, ROUNDING)


@pytest.mark.parametrize(
    "name", [*MODELS, *(pytest.param(name, marks=pytest.mark.slow) for name in ARCHITECTURES)]
)
@pytest.mark.parametrize("pooling", ["auto", "first", "mean"])
def test_the_head_reads_what_model_pooling_says(
    load_tiny_base: Any, name: str, pooling: Any
) -> None:
    if EXCEPTIONS.get(name, ("",))[0] == pooling:
        with pytest.raises(ModelError, match=r"Fix: set model\.pooling to"):
            load_tiny_base(name, LABELS, pooling=pooling)
        return
    classifier = load_tiny_base(name, LABELS, pooling=pooling)
    inputs, model = inputs_of(classifier), classifier.model.eval()
    if pooling == "auto":  # what Transformers itself computes, with the same head
        theirs = AutoModelForSequenceClassification.from_pretrained(
            paths.BASE_MODEL, config=AutoConfig.from_pretrained(paths.BASE_MODEL, num_labels=2)
        ).eval()
        theirs.load_state_dict(classifier.head_state(), strict=False)
        with torch.no_grad():
            assert_near(model(**inputs).logits, theirs(**inputs).logits, 1e-3)
        return
    seen = getattr(model, model.base_model_prefix)(**inputs).last_hidden_state
    body = AutoModel.from_pretrained(paths.BASE_MODEL, attn_implementation="eager").eval()
    if name == "Funnel":
        body = AutoModelForSequenceClassification.from_pretrained(paths.BASE_MODEL).funnel.eval()
    with torch.no_grad():
        states = body(**inputs).last_hidden_state
    for row, length in enumerate(inputs["attention_mask"].sum(1).tolist()):
        wanted = states[row, 0] if pooling == "first" else states[row, :length].mean(0)
        torch.testing.assert_close(seen[row, 0], wanted, rtol=1e-4, atol=1e-5)


def test_the_table_in_the_readme_is_the_one_that_is_run() -> None:
    (written,) = BLOCK.findall(README.read_text(encoding="utf-8"))
    assert written == table_of_architectures(), "run: python -m tests.support.architectures"


def test_every_architecture_of_the_table_is_accepted_and_every_reason_is_given() -> None:
    import transformers

    for kind, _ in ARCHITECTURES.values():
        refuse_unsupported({"model_type": getattr(transformers, kind).config_class.model_type}, "x")
    for kind, reason in REASONS.items():
        with pytest.raises(ModelError, match=f"mine: {kind} is not supported") as caught:
            refuse_unsupported({"model_type": kind}, "mine")
        assert reason in str(caught.value)
