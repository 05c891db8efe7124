"""What answers, from models/ and from exported folders: one class, damage in one line."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import processors

from stages.core import paths
from stages.core.artefacts import read_json, sha256_of, write_json
from stages.core.errors import HostError, ModelError
from stages.core.params import Params
from stages.scoring import predictions
from stages.tools.export import Wanted
from stages.tools.predictor import Predictor, batches, open_predictor
from tests.support.exports import (
    MAX_LENGTH,
    TEMPERATURE,
    TEXTS,
    exported,
    trained,
    wanted_logits,
)
from tests.support.tiny import COMPUTE, ROOT, table

LABELS = ["negative", "positive"]
Folders = Callable[[str], tuple[Path, Any]]


@pytest.fixture
def folders(load_tiny_base: Any, tmp_path: Path) -> Folders:
    """Return a function that makes an export of a kind, and the logits that it must give."""

    def make(kind: str) -> tuple[Path, Any]:
        classifier = trained(load_tiny_base("bert", pooling="mean"))
        logits = wanted_logits(classifier)
        wanted = Wanted("merged" if kind == "merged" else "onnx", int8=kind == "int8")
        return exported(classifier, tmp_path / kind, wanted), logits

    return make


@pytest.fixture
def models_alone(project: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Stand in a folder that has nothing but the models of a run, and return that run."""
    folder = tmp_path / "alone"
    shutil.copytree(project / paths.MODELS, folder / paths.MODELS)
    monkeypatch.chdir(folder)
    return project


@pytest.mark.parametrize("name", ["adapter", "base"])
def test_models_answer_as_the_stages_recorded_and_say_what_they_are(
    models_alone: Path, params: Params, name: str
) -> None:
    texts = pd.read_parquet(models_alone / paths.TEST)["text"].tolist()
    path = {"adapter": paths.ADAPTER_PREDICTIONS, "base": paths.BASE_PREDICTIONS}[name]
    recorded = predictions.read_predictions(models_alone / path, str(path), "")
    predictor = open_predictor(compute=COMPUTE, base=name == "base")
    found = predictor.logits(texts)
    shares = predictor.shares(found)
    np.testing.assert_allclose(shares, predictions.probabilities_of(recorded), atol=2e-6)
    np.testing.assert_array_equal(predictor.logits(texts), found)
    np.testing.assert_allclose(predictor.logits(texts[3:4]), found[3:4], atol=1e-5)
    weights, fit = {
        "adapter": (paths.ADAPTER_WEIGHTS, paths.ADAPTER_MANIFEST),
        "base": (paths.HEAD_WEIGHTS, paths.HEAD_FIT),
    }[name]
    assert predictor.description == f"{name} fp32"
    assert predictor.labels == LABELS
    assert predictor.max_length == params.data.max_length == 32
    assert predictor.temperature == read_json(fit)["temperature"] != 1
    assert predictor.sha256 == sha256_of(weights)
    fits = "good " * 30  # two tokens are special
    assert predictor.cut([fits, fits + "bad", "bad"]) == [False, True, False]
    np.testing.assert_array_equal(predictor.logits([fits]), predictor.logits([fits + "bad"]))


@pytest.mark.parametrize("kind", ["merged", "onnx"])
def test_an_export_answers_as_the_adapter_and_says_what_it_is(
    folders: Folders, load_tiny_base: Any, kind: str
) -> None:
    folder, logits = folders(kind)
    predictor = open_predictor(folder, threads=1)
    assert predictor.description == f"{kind} fp32"
    assert predictor.labels == LABELS
    assert (predictor.max_length, predictor.temperature) == (MAX_LENGTH, TEMPERATURE)
    weights = folder / ("model.onnx" if kind == "onnx" else "model.safetensors")
    assert predictor.sha256 == sha256_of(weights)
    found = predictor.logits(TEXTS)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, logits, atol=2e-5)
    np.testing.assert_allclose(predictor.logits(TEXTS[::-1]), logits[::-1], atol=2e-5)
    tokenizer = load_tiny_base("bert").tokenizer
    lengths = [len(tokenizer(text)["input_ids"]) for text in TEXTS]
    assert max(lengths) > 3 * MAX_LENGTH
    assert predictor.cut(TEXTS) == [length > MAX_LENGTH for length in lengths]


@pytest.mark.guard("int8 rows alone")
def test_in_8_bits_no_answer_depends_on_the_texts_beside_it(folders: Folders) -> None:
    folder, _ = folders("int8")
    predictor = open_predictor(folder, threads=1)
    texts = [text for text, _ in table(classes=2, rows=12, seed=3)] + [*TEXTS, "a", "unknown " * 9]
    alone = np.concatenate([predictor.logits([text]) for text in texts])
    np.testing.assert_array_equal(predictor.logits(texts), alone)
    np.testing.assert_array_equal(predictor.logits(texts[::-1])[::-1], alone)


@pytest.mark.parametrize("kind", ["merged", "onnx"])
def test_a_text_without_any_token_is_answered(
    load_tiny_base: Any, tmp_path: Path, kind: Any
) -> None:
    classifier = trained(load_tiny_base("bert", pooling="mean"))
    nothing_added = processors.TemplateProcessing("$A", None, [])
    classifier.tokenizer.backend_tokenizer.post_processor = nothing_added
    predictor = open_predictor(exported(classifier, tmp_path / kind, Wanted(kind)), threads=1)
    found = predictor.logits(["", "good w1", "[UNK]"])
    np.testing.assert_allclose(found[0], found[2], atol=1e-6)
    assert predictor.cut([""]) == [False]


def invented(score: Callable[[list[str]], Any]) -> Predictor:
    return Predictor("onnx fp32", LABELS, 9, 2.0, "ab", score, lambda _: [False])


@given(lengths=st.lists(st.integers(1, 600)), tokens=st.sampled_from([1, 64, 2048]))
def test_batches_hold_every_row_once_and_are_bounded(lengths: list[int], tokens: int) -> None:
    made = list(batches(lengths, tokens))
    assert sorted(row for batch in made for row in batch) == list(range(len(lengths)))
    widest = [max(lengths[row] for row in batch) for batch in made]
    assert widest == sorted(widest, reverse=True)
    for batch, width in zip(made, widest, strict=True):
        assert len(batch) == 1 or len(batch) * width <= tokens


def test_an_onnx_export_answers_without_torch_and_transformers(
    folders: Folders, tmp_path: Path
) -> None:
    folder, logits = folders("onnx")
    code = (
        "import sys; from stages.tools import cli\n"
        f"try: cli.main(['predict', '--all', '--model', {str(folder)!r}, *{TEXTS!r}])\n"
        "finally: print(sorted({'torch', 'transformers', 'peft'} & set(sys.modules)))\n"
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
    cut = "note: 1 of 5 texts have more than 12 tokens; the rest of them is not read\n"
    assert done.stderr == cut
    answers = [[json.loads(row)[f"p_{label}"] for label in LABELS] for row in rows]
    expected = invented(lambda _: logits).shares(logits)
    np.testing.assert_allclose(answers, expected, atol=1e-5)


def rewrite(folder: Path, **changes: Any) -> None:
    """Change fields of export.json, None for leaving one out."""
    record = read_json(folder / paths.EXPORT_RECORD) | changes
    kept = {name: value for name, value in record.items() if value is not None}
    write_json(folder / paths.EXPORT_RECORD, kept)


def spoil(folder: Path, name: str) -> None:
    """Replace a file by one that has the right hash and cannot be loaded."""
    (folder / name).write_bytes(b"not weights")
    files = read_json(folder / paths.EXPORT_RECORD)["files"]
    rewrite(folder, files=files | {name: sha256_of(folder / name)})


@pytest.mark.guard("files of an export")
@pytest.mark.parametrize(
    ("kind", "damage", "message"),
    [
        ("onnx", lambda f: (f / "tokenizer.json").write_text("{}"), "tokenizer.json: damaged"),
        ("onnx", lambda f: (f / "model.onnx").unlink(), "model.onnx: missing.*--force"),
        ("onnx", lambda f: (f / "export.json").write_text("[]"), "export.json: is damaged"),
        ("onnx", lambda f: rewrite(f, labels="no"), "export.json: is damaged"),
        ("onnx", lambda f: rewrite(f, check=None), "export.json: is damaged"),
        ("onnx", lambda f: (f / "export.json").unlink(), "not a folder of bert-lora export"),
        ("onnx", lambda f: spoil(f, "model.onnx"), "cannot be loaded: .*Fix: export it again"),
        ("onnx", lambda f: spoil(f, "tokenizer.json"), "tokenizer.json: cannot be loaded"),
        ("merged", lambda f: spoil(f, "model.safetensors"), "cannot be loaded: .*Fix: export it"),
        ("onnx", shutil.rmtree, "no such folder.*make it: bert-lora export"),
    ],
)
def test_a_damaged_export_is_one_line(
    folders: Folders, kind: str, damage: Callable[[Path], None], message: str
) -> None:
    folder, _ = folders(kind)
    damage(folder)
    with pytest.raises((ModelError, HostError), match=message):
        open_predictor(folder)


def test_onnx_runtime_is_asked_for(folders: Folders, monkeypatch: pytest.MonkeyPatch) -> None:
    folder, _ = folders("onnx")
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(HostError, match=r"onnxruntime is not installed.*'\.\[export\]'"):
        open_predictor(folder)
