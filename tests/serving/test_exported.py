"""An exported folder as a scorer: texts in, logits out; damage and other folders are one line."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from stages.core import paths
from stages.core.artefacts import read_json, write_json
from stages.core.errors import HostError, ModelError, NumericsError
from stages.core.params import Params
from stages.serving.batched import BATCH_TOKENS, batches, in_batches
from stages.serving.export import Wanted
from stages.serving.export_predictor import ExportPredictor
from stages.serving.exported import open_scorer
from stages.serving.scorer import probabilities_of
from tests.support.exports import (
    MAX_LENGTH,
    TEMPERATURE,
    TEXTS,
    exported,
    finish,
    trained,
    wanted_logits,
)
from tests.support.tiny import COMPUTE, ROOT

LABELS = ("negative", "positive")


@pytest.fixture
def folders(load_tiny_base: Any, tmp_path: Path) -> Callable[[str], tuple[Path, Any]]:
    """Return a function that makes an export of a format, and the logits that it must give."""

    def make(form: Any) -> tuple[Path, Any]:
        classifier = trained(load_tiny_base("bert", pooling="mean"))
        logits = wanted_logits(classifier)
        return exported(classifier, tmp_path / form, Wanted(form)), logits

    return make


@pytest.mark.parametrize("form", ["merged", "onnx"])
def test_a_scorer_says_what_it_is(folders: Any, form: str) -> None:
    folder, logits = folders(form)
    scorer = open_scorer(folder, threads=1)
    assert scorer.description == f"{form} fp32"
    assert scorer.labels == list(LABELS)
    assert (scorer.max_length, scorer.temperature) == (MAX_LENGTH, TEMPERATURE)
    weights = "model.onnx" if form == "onnx" else "model.safetensors"
    assert scorer.sha256 == read_json(folder / "export.json")["files"][weights]
    scores = scorer.score(TEXTS)
    assert scores.dtype == np.float32
    assert scores.shape == (len(TEXTS), 2)
    np.testing.assert_allclose(scores, logits, atol=2e-5)
    np.testing.assert_allclose(scorer.score(TEXTS[::-1]), logits[::-1], atol=2e-5)
    assert scorer.score([]).shape == (0, 2)


def test_lengths_count_what_is_cut_off_too(folders: Any, load_tiny_base: Any) -> None:
    folder, _ = folders("onnx")
    tokenizer = load_tiny_base("bert").tokenizer
    expected = [len(tokenizer(text)["input_ids"]) for text in TEXTS]
    assert max(expected) > 3 * MAX_LENGTH
    assert open_scorer(folder).lengths(TEXTS) == expected
    predictor = ExportPredictor.load(folder, COMPUTE)
    assert predictor.count_cut(TEXTS) == sum(length > MAX_LENGTH for length in expected) == 1
    assert predictor.tokens_read == MAX_LENGTH


def test_probabilities_are_the_softmax() -> None:
    logits = np.array([[0, np.log(3)], [1000, 0]], dtype=np.float32)
    expected = np.array([[0.25, 0.75], [1, 0]])
    np.testing.assert_allclose(probabilities_of(logits), expected, atol=1e-7)
    halved = probabilities_of(np.array([[0, 2 * np.log(3)]], dtype=np.float32), temperature=2)
    np.testing.assert_allclose(halved, [[0.25, 0.75]], atol=1e-7)


def test_an_onnx_export_answers_without_torch_and_transformers(
    folders: Any, tmp_path: Path
) -> None:
    folder, logits = folders("onnx")
    code = (
        "import sys; from stages.tools import cli\n"
        f"try: cli.main(['predict', '--all', '--model', {str(folder)!r}, *{TEXTS!r}])\n"
        "finally: print(sorted({'torch', 'transformers', 'peft', 'pandas'} & set(sys.modules)))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
    )
    *rows, heavy = done.stdout.splitlines()
    assert (done.returncode, heavy) == (0, "[]"), done.stderr
    assert (
        done.stderr == "note: 1 of 5 texts have more than 12 tokens; the rest of them is not read\n"
    )
    answers = [[json.loads(row)[f"p_{label}"] for label in LABELS] for row in rows]
    np.testing.assert_allclose(answers, probabilities_of(logits), atol=1e-5)


def test_batches_hold_every_row_once_and_are_bounded() -> None:
    lengths = [*np.random.default_rng(0).integers(2, 600, 500).tolist(), 5000]
    made = batches(lengths)
    assert sorted(row for batch in made for row in batch) == list(range(501))
    assert made[0] == [500]  # longer than a batch may be, so alone
    for batch in made[1:]:
        assert len(batch) * max(lengths[row] for row in batch) <= BATCH_TOKENS
    longest = [max(lengths[row] for row in batch) for batch in made]
    assert longest == sorted(longest, reverse=True)
    assert batches([]) == []


def test_a_logit_that_is_no_number_is_an_error(folders: Any) -> None:
    folder, _ = folders("onnx")
    tokenizer = open_scorer(folder)._tokenizer  # type: ignore[attr-defined]  # what they share

    def run(batch: Any) -> Any:
        return np.full((len(batch["input_ids"]), 2), np.nan, dtype=np.float32)

    with pytest.raises(NumericsError, match="not a finite number"):
        in_batches(tokenizer, TEXTS, run, 2)


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda f: (f / "tokenizer.json").write_text("{}"), r"tokenizer.json: damaged"),
        (lambda f: (f / "model.onnx").unlink(), r"model.onnx: missing.*--force"),
        (lambda f: (f / "model.onnx").write_bytes(b"x"), r"model.onnx: damaged"),
        (lambda f: (f / "export.json").write_text("[]"), r"export.json: is damaged"),
        (lambda f: (f / "export.json").write_text('{"format": "onnx"}'), r"export.json: is dam"),
        (lambda f: (f / "export.json").unlink(), r"not a folder of bert-lora export"),
    ],
)
@pytest.mark.guard("files of an export")
def test_a_damaged_folder_is_one_line(folders: Any, damage: Any, message: str) -> None:
    folder, _ = folders("onnx")
    damage(folder)
    with pytest.raises(ModelError, match=message):
        open_scorer(folder)


def test_an_export_that_was_not_checked_is_not_opened(folders: Any) -> None:
    folder, _ = folders("onnx")
    record = read_json(folder / paths.EXPORT_RECORD)
    del record["check"]
    write_json(folder / paths.EXPORT_RECORD, record)
    with pytest.raises(ModelError, match="is damaged"):
        open_scorer(folder)
    open_scorer(folder, finished=False)


@pytest.mark.parametrize("form", ["merged", "onnx"])
def test_weights_that_cannot_be_loaded_are_one_line(folders: Any, form: str) -> None:
    from stages.core.artefacts import sha256_of

    folder, _ = folders(form)
    weights = folder / ("model.onnx" if form == "onnx" else "model.safetensors")
    weights.write_bytes(b"not weights")
    record = read_json(folder / paths.EXPORT_RECORD)
    record["files"][weights.name] = sha256_of(weights)
    write_json(folder / paths.EXPORT_RECORD, record)
    with pytest.raises(ModelError, match=r"cannot be loaded: .*Fix: export it again"):
        open_scorer(folder)


def test_a_missing_folder_and_a_missing_runtime_are_one_line(
    folders: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, params: Params
) -> None:
    assert params  # the session's fixtures are made before the modules change
    with pytest.raises(HostError, match=r"none: no such folder.*bert-lora export .*none"):
        open_scorer(tmp_path / "none")
    folder, _ = folders("onnx")
    finish(folder)
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(HostError, match=r"onnxruntime is not installed.*'\.\[export\]'"):
        open_scorer(folder)
