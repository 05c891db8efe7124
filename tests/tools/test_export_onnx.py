"""Every architecture as an ONNX file: any number of rows and tokens, the adapter's logits."""

import logging
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
import torch

from stages.core import paths
from stages.core.errors import ModelError
from stages.tools.export import Wanted
from stages.tools.predictor import open_predictor
from tests.support.exports import TEXTS, exported, trained, wanted_logits
from tests.support.tiny import MODELS

ONNX = Wanted("onnx")


@pytest.mark.slow
@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("pooling", ["auto", "mean"])
def test_the_graph_gives_the_adapters_logits(
    load_tiny_base: Any, tmp_path: Path, name: str, pooling: str
) -> None:
    check_graph(load_tiny_base(name, pooling=pooling), tmp_path)


def test_the_default_architecture_and_pooling(load_tiny_base: Any, tmp_path: Path) -> None:
    check_graph(load_tiny_base("bert", pooling="mean"), tmp_path)


def check_graph(base: Any, tmp_path: Path) -> None:
    """Check the graph of a base with LoRA, in batches, alone and at other lengths."""
    classifier = trained(base)
    expected = wanted_logits(classifier)
    tokens = classifier.tokenizer.get_vocab()
    folder = exported(classifier, tmp_path / "onnx", ONNX)
    predictor = open_predictor(folder)
    np.testing.assert_allclose(predictor.logits(TEXTS), expected, atol=2e-5)
    alone = np.concatenate([predictor.logits([text]) for text in TEXTS])
    np.testing.assert_allclose(alone, expected, atol=2e-5)
    session = onnxruntime.InferenceSession(folder / paths.EXPORT_ONNX)
    assert [entry.name for entry in session.get_inputs()] == ["input_ids", "attention_mask"]
    for rows, length in ((1, 2), (1, 3), (2, 2), (7, 31), (64, 5)):
        ids = np.random.default_rng(0).integers(1, len(tokens), (rows, length))
        mask = np.ones_like(ids)
        mask[rows // 2, 1 + length // 2 :] = 0  # padding in one row
        given = {"input_ids": ids, "attention_mask": mask}
        with torch.no_grad():
            inputs = {name: torch.from_numpy(array) for name, array in given.items()}
            wanted = classifier.model.get_base_model()(**inputs).logits.numpy()
        got = session.run(["logits"], given)[0]
        np.testing.assert_allclose(got, wanted, atol=2e-5)


def test_8_bit_weights_are_integers_and_close(load_tiny_base: Any, tmp_path: Path) -> None:
    classifier = trained(load_tiny_base("bert", pooling="mean"))
    expected = wanted_logits(classifier)
    folder = exported(classifier, tmp_path / "int8", Wanted("onnx", int8=True))
    weights = onnx.load(folder / paths.EXPORT_ONNX).graph.initializer
    kinds = {t.data_type for t in weights if len(t.dims) > 1 and min(t.dims) >= 32}
    assert kinds == {onnx.TensorProto.INT8, onnx.TensorProto.UINT8}  # products, embeddings
    predictor = open_predictor(folder)
    assert predictor.description == "onnx int8"
    difference = np.abs(predictor.logits(TEXTS) - expected).max()
    assert 0 < difference < 0.2 * np.abs(expected).max()


def test_an_exporter_that_fails_is_one_line_and_prints_nothing(
    load_tiny_base: Any,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    def fail(*_: Any, **__: Any) -> None:
        print("[torch.onnx] Run decompositions...")
        logging.getLogger("torch.onnx").warning("torchvision is not installed")
        raise RuntimeError("no rule for\nan operator")

    monkeypatch.setattr("transformers.exporters.exporter_onnx.OnnxExporter.export", fail)
    with pytest.raises(ModelError, match=r"to ONNX: no rule for\\nan operator"):
        exported(trained(load_tiny_base("bert")), tmp_path / "onnx", ONNX)
    assert capfd.readouterr() == ("", "")
