"""A loaded predictor: labels and length of the manifest, the same answers each time it is asked."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from stages.core import paths
from stages.core.errors import HostError, ModelError
from stages.core.params import Params
from stages.scoring.predictions import probabilities_of, read_predictions
from stages.serving.predictor import Predictor
from tests.support.tiny import COMPUTE, table


@pytest.fixture
def models_alone(project: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Stand in a folder that has nothing but the models of a run."""
    folder = tmp_path / "alone"
    shutil.copytree(project / paths.MODELS, folder / paths.MODELS)
    monkeypatch.chdir(folder)
    return project


@pytest.mark.parametrize("who", ["adapter", "base"])
def test_answers_are_those_that_the_stages_recorded(models_alone: Path, who: str) -> None:
    import pandas as pd

    test = pd.read_parquet(models_alone / paths.TEST)
    path = {"adapter": paths.ADAPTER_PREDICTIONS, "base": paths.BASE_PREDICTIONS}[who]
    recorded = read_predictions(models_alone / path, str(path), "")
    assert recorded["id"].tolist() == test["id"].tolist()
    predictor = Predictor.load(COMPUTE, with_base=True)
    ask = {"adapter": predictor.probabilities, "base": predictor.base_probabilities}[who]
    np.testing.assert_allclose(ask(test["text"].tolist()), probabilities_of(recorded), atol=2e-6)


@pytest.mark.usefixtures("models_alone")
def test_asking_again_and_asking_for_one_text_alone_change_no_answer() -> None:
    texts = [text for text, _ in table(classes=2, rows=12)]
    predictor = Predictor.load(COMPUTE)
    first = predictor.probabilities(texts)
    np.testing.assert_array_equal(predictor.probabilities(texts), first)
    np.testing.assert_allclose(predictor.probabilities(texts[3:4]), first[3:4], atol=1e-6)
    np.testing.assert_allclose(first.sum(axis=1), 1)


@pytest.mark.usefixtures("models_alone")
def test_labels_and_length_are_those_of_the_manifest(params: Params) -> None:
    predictor = Predictor.load(COMPUTE)
    manifest = json.loads(paths.ADAPTER_MANIFEST.read_text(encoding="utf-8"))
    assert predictor.labels == manifest["labels"] == ["negative", "positive"]
    assert predictor.max_length == params.data.max_length
    fits = "good " * (predictor.max_length - 2)  # two tokens are special
    assert predictor.count_cut([fits, fits + "bad", "bad"]) == 1
    uncut, cut = (predictor.probabilities([text]) for text in (fits, fits + "bad"))
    np.testing.assert_array_equal(uncut, cut)


@pytest.mark.usefixtures("models_alone")
def test_the_base_is_loaded_only_on_request() -> None:
    shutil.rmtree(paths.HEAD)
    with pytest.raises(ValueError, match="without the base"):
        Predictor.load(COMPUTE).base_probabilities(["good"])
    with pytest.raises(HostError, match="models/head not found"):
        Predictor.load(COMPUTE, with_base=True)


@pytest.mark.usefixtures("models_alone")
def test_a_damaged_manifest_is_one_line() -> None:
    paths.ADAPTER_MANIFEST.write_text("{", encoding="utf-8")
    with pytest.raises(ModelError, match="not a manifest"):
        Predictor.load(COMPUTE)
