"""The card of an exported folder: what it shows runs, and no name breaks it."""

from __future__ import annotations

import ast
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from ruamel.yaml import YAML

from stages.core.artefacts import read_json
from stages.serving.export import Wanted
from stages.serving.export_card import export_card
from tests.support.exports import exported, trained, wanted_logits

CHECK = {
    **{"rows": 1057, "largest_difference": 5.04e-06, "flipped": 3, "fixed": 1, "broken": 2},
    **{"accuracy": 0.853, "adapter_accuracy": 0.8543, "mcnemar_p": 1.0, "bytes": 91_590_970},
    **{"rows_per_second": 1234.6, "single_ms": 11.27, "threads": 2},
}
MORE = {
    "check": CHECK,
    "adapter": {"adapter_model.safetensors": "a" * 64},
    "base": {"model.safetensors": "b" * 64},
    "base_source": "owner/name@" + "0" * 40,
    "packages": {"torch": "2.13.0"},
}


def card_of(record: dict[str, Any], name: str = "out") -> tuple[dict[str, Any], str]:
    """Return the card's head as YAML, and what follows."""
    card = export_card(record | MORE, name)
    _, head, body = card.split("---\n", 2)
    return YAML(typ="safe").load(head), body


def record_of(form: str, labels: tuple[str, ...] = ("no", "yes")) -> dict[str, Any]:
    return {
        **{"format": form, "precision": "fp32", "labels": list(labels), "temperature": 1.4663},
        **{"max_length": 128, "pad_token_id": 0, "pooling": "mean"},
        "model": {"class": "UltraVBertForSequenceClassification"},
        "files": {"model.onnx": "c" * 64},
    }


@pytest.mark.parametrize(("form", "library"), [("merged", "transformers"), ("onnx", "onnx")])
def test_the_head_and_the_figures_are_those_of_the_record(form: str, library: str) -> None:
    head, body = card_of(record_of(form))
    assert head["library_name"] == library
    assert head["base_model"] == "owner/name"
    assert head["model-index"][0]["results"][0]["metrics"][0]["value"] == 0.853
    rows = dict(re.findall(r"^\| (.+?) \| (.+) \|$", body, re.MULTILINE))
    assert rows["largest difference of a logit"] == "5e-06"
    assert rows["rows with another label"] == "3"
    assert rows["accuracy, adapter's accuracy"] == "85.30 %, 85.43 %"
    assert rows["rows a second, on 2 threads"] == "1,235"
    assert rows["size"] == "91.6 MB"
    assert "temperature 1.466 " in body
    for sha in ("a" * 64, "b" * 64, "c" * 64):
        assert f"sha256 `{sha}`" in body


def test_a_source_that_is_no_id_of_the_hub_is_not_in_the_head() -> None:
    record = record_of("merged") | MORE | {"base_source": "all-MiniLM-L6-v2"}
    assert "base_model" not in export_card(record, "out").split("---\n")[1]


def test_no_label_and_no_folder_name_breaks_the_card() -> None:
    label, name = 'a`b</code>\n---\n"x', 'it\'s "mine"'
    _, body = card_of(record_of("merged", (label, "yes")), name)
    assert "</code>\n---" not in body
    assert "&lt;/code&gt;\\n---\\n" in body
    (line,) = re.findall(r"classify = pipeline\(.*, (.*)\)", body)
    assert ast.literal_eval(line) == name


def test_the_lines_for_onnx_give_the_adapters_logits(
    load_tiny_base: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from tests.support import exports

    monkeypatch.setattr(exports, "TEXTS", ["a text", "another one"])
    classifier = trained(load_tiny_base("bert", pooling="mean"))
    expected = wanted_logits(classifier)
    folder = exported(classifier, tmp_path / "onnx", Wanted("onnx"))
    _, body = card_of(read_json(folder / "export.json"), "onnx")
    (code,) = re.findall(r"```python\n(.*?)```", body, re.DOTALL)
    monkeypatch.chdir(tmp_path)
    scope: dict[str, Any] = {}
    exec(code, scope)  # noqa: S102  # what the card shows
    np.testing.assert_allclose(scope["logits"], expected, atol=2e-5)
