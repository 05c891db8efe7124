"""The model cards: a head that the Hub reads, no path of this machine, and code that runs."""

import ast
import re
import shutil
from contextlib import chdir
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from ruamel.yaml import YAML

from stages.core import paths
from stages.core.artefacts import read_json
from stages.core.methods import FACTS
from stages.reporting.page import export_card, model_card
from stages.tools.export import Wanted
from tests.support import exports
from tests.support.example_results import HOSTILE, example
from tests.support.tiny import changed, shipped

PINNED = "an-owner/a-rather-long-name-of-a-model@" + 4 * "0123456789"
CHECK = {
    **{"rows": 1057, "largest_difference": 5.04e-06, "flipped": 3, "fixed": 1, "broken": 2},
    **{"accuracy": 0.853, "adapter_accuracy": 0.8543, "mcnemar_p": 1.0, "bytes": 91_590_970},
    **{"rows_per_second": 1234.6, "single_ms": 11.27, "threads": 2},
}
MORE = {
    "check": CHECK,
    "adapter": {"adapter_model.safetensors": "a" * 64},
    "base": {"model.safetensors": "b" * 64},
    "base_source": PINNED,
    "packages": {"torch": "2.13.0"},
}


def parts(card: str) -> tuple[dict[str, Any], str]:
    """Return a card's head as YAML, and what follows."""
    _, head, body = card.split("---\n", 2)
    return YAML(typ="safe").load(head), body


def code_of(card: str) -> str:
    (code,) = re.findall(r"```python\n(.*?)```", card, re.DOTALL)
    return str(code)


def test_the_card_names_base_and_licence_as_the_hub_does() -> None:
    results = example(shipped(), ["no", "yes"])
    head, body = parts(model_card(results))
    assert head["base_model"] == "sentence-transformers/all-MiniLM-L6-v2"
    assert head["license"] == "apache-2.0"
    assert head["library_name"] == "peft"
    assert head["pipeline_tag"] == "text-classification"
    metrics = head["model-index"][0]["results"][0]["metrics"]
    assert {entry["type"] for entry in metrics} == set(head["metrics"]) == {"accuracy", "f1"}
    assert "datasets" not in head
    assert f"{results.verdict}." in body
    assert "Licence: MIT. Hutto & Gilbert 2014" in body
    assert 'else "sentence-transformers/all-MiniLM-L6-v2"' in code_of(body)


def test_a_pinned_source_is_named_without_its_revision_and_loaded_with_it() -> None:
    changes = changed(shipped(), model__source=PINNED, data__source="rotten_tomatoes")
    head, body = parts(model_card(example(changes, ["no", "yes"])))
    name, _, revision = PINNED.partition("@")
    assert head["base_model"] == name
    assert "license" not in head
    assert head["datasets"] == ["cornell-movie-review-data/rotten_tomatoes"]
    assert code_of(body).count(f', revision="{revision}"') == 2
    assert f'else "{name}"' in code_of(body)


def test_no_path_of_this_machine_and_no_label_is_in_the_head() -> None:
    odd = changed(
        shipped(), model__source='/home/me/a: "b" # c', data__source="/home/me/- x\\ 🙂.csv"
    )
    card = model_card(example(odd, HOSTILE))
    head, _ = parts(card)
    assert "base_model" not in head
    assert head["model-index"][0]["results"][0]["dataset"]["name"] == "files of its author"
    assert "/home/me" not in card


@pytest.mark.parametrize("method", FACTS)
def test_the_code_loads_what_the_method_saved(method: str) -> None:
    code = code_of(model_card(example(changed(shipped(), train__method=method), ["no", "yes"])))
    assert ("PeftModel" in code) is (FACTS[method].library == "peft")
    assert ("load_state_dict" in code) is (FACTS[method].library is None)
    ast.parse(code)


@pytest.mark.parametrize("place", ["a clone", "the adapter's folder"])
def test_the_code_gives_the_adapters_probabilities(
    project: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], place: str
) -> None:
    texts = pd.read_parquet(project / paths.TEST)
    expected = pd.read_csv(project / paths.ADAPTER_PREDICTIONS).iloc[0]
    code = code_of((project / paths.MODEL_CARD).read_text(encoding="utf-8"))
    code = code.replace('["a text"]', repr([texts["text"][0]]))
    where = project
    if place != "a clone":
        where = tmp_path / "elsewhere"
        shutil.copytree(project / "models/base", where / "models/base")
        shutil.copytree(project / "models/adapter", where / "mine")
        code = code.replace('name = "models/adapter"', 'name = "mine"')
    with chdir(where):
        exec(code, {})  # noqa: S102  # what the card shows
    found = ast.literal_eval(capsys.readouterr().out)
    assert found == {
        label: pytest.approx(expected[f"p_{label}"], abs=1e-5) for label in ("negative", "positive")
    }


@pytest.mark.parametrize(
    ("change", "same"),
    [
        ({"lora__use_dora": True, "model__pooling": "auto"}, False),
        ({"train__method": "peft", "model__pooling": "auto"}, False),
        ({"model__pooling": "mean"}, False),
        ({"model__pooling": "auto"}, True),
    ],
)
def test_the_card_says_whether_transformers_alone_loads_the_same(
    change: dict[str, Any], same: bool
) -> None:
    card = model_card(example(changed(shipped(), **change), ["no", "yes"]))
    assert ("raises no error, but gives\nother answers" in card) is not same
    assert ("gives the same model, for `pipeline()` too" in card) is same


def record_of(form: str, labels: tuple[str, ...] = ("no", "yes")) -> dict[str, Any]:
    return MORE | {
        **{"format": form, "precision": "fp32", "labels": list(labels), "temperature": 1.4663},
        **{"max_length": 128, "pad_token_id": 0, "pooling": "mean"},
        "model": {"class": "UltraVBertForSequenceClassification"},
        "files": {"model.onnx": "c" * 64},
    }


@pytest.mark.parametrize(("form", "library"), [("merged", "transformers"), ("onnx", "onnx")])
def test_the_card_of_an_export_has_the_figures_of_its_record(form: str, library: str) -> None:
    head, body = parts(export_card(record_of(form), "out"))
    assert head["library_name"] == library
    assert head["base_model"] == PINNED.partition("@")[0]
    assert head["model-index"][0]["results"][0]["metrics"][0]["value"] == 0.853
    rows = dict(re.findall(r"^\| (.+?) \| (.+) \|$", body, re.MULTILINE))
    assert rows["largest difference of a logit"] == "5e-06"
    assert rows["rows with another label"] == "3"
    assert rows["accuracy, adapter's accuracy"] == "85.30 %, 85.43 %"
    assert rows["rows a second, on 2 threads"] == "1,235"
    assert rows["size"] == "91.6 MB"
    assert "temperature of 1.466 " in body


def test_no_label_and_no_folder_name_breaks_the_card_of_an_export() -> None:
    label, name = 'a`b</code>\n---\n"x', 'it\'s "mine"'
    _, body = parts(export_card(record_of("merged", (label, "yes")), name))
    assert "</code>\n---" not in body
    (line,) = re.findall(r"^name = (.*?)  # ", body, re.MULTILINE)
    assert ast.literal_eval(line) == name


@pytest.mark.parametrize("form", ["merged", "onnx"])
def test_the_code_of_an_export_gives_the_adapters_answers(
    load_tiny_base: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, form: Any
) -> None:
    monkeypatch.setattr(exports, "TEXTS", ["a text", "another one"])
    classifier = exports.trained(load_tiny_base("bert", pooling="mean"))
    expected = exports.wanted_logits(classifier)
    folder = exports.exported(classifier, tmp_path / form, Wanted(form))
    code = code_of(export_card(MORE | read_json(folder / "export.json") | {"check": CHECK}, form))
    monkeypatch.chdir(tmp_path)
    scope: dict[str, Any] = {}
    exec(code.replace("print(", "answers = (", 1), scope)  # noqa: S102  # what the card shows
    if form == "onnx":
        np.testing.assert_allclose(scope["logits"], expected, atol=2e-5)
    else:
        shares = np.exp(expected[0]) / np.exp(expected[0]).sum()
        found = {entry["label"]: entry["score"] for entry in scope["answers"]}
        assert [found[label] for label in classifier.labels] == pytest.approx(
            shares.tolist(), abs=1e-5
        )
