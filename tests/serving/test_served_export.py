"""What is served from an export: the adapter's answers, their words, and the base beside it."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
from stages.serving.export import Wanted

from stages.core import paths
from stages.core.artefacts import sha256_of
from stages.core.errors import HostError, ModelError
from stages.serving.http.answers import Question, answer, score
from stages.serving.served import plain_classifier, serve_adapter
from stages.serving.served_export import serve_export
from tests.support.exports import MAX_LENGTH, TEMPERATURE, exported
from tests.support.tiny import COMPUTE, table

TEXTS = [text for text, _ in table(classes=2, rows=20, seed=7)]


@pytest.fixture(scope="module")
def merged(finished_run: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a merged export of the finished run's adapter."""
    classifier, _ = plain_classifier(COMPUTE, "model", finished_run)
    return exported(classifier, tmp_path_factory.mktemp("merged") / "m", Wanted("merged"))


@pytest.mark.usefixtures("project")
def test_a_merged_export_answers_as_the_adapter(merged: Path) -> None:
    served, adapter = serve_export(merged, COMPUTE, False), serve_adapter(COMPUTE, False)
    np.testing.assert_allclose(served.model.score(TEXTS), adapter.model.score(TEXTS), atol=1e-4)
    assert served.model.labels == adapter.model.labels
    assert (served.model.temperature, served.model.max_length) == (TEMPERATURE, MAX_LENGTH)
    assert served.base is None
    assert served.files == {name: sha256_of(Path(name)) for name in served.files}
    assert {Path(name).parent for name in served.files} == {merged}
    assert served.model.sha256 == served.files[str(merged / paths.EXPORT_WEIGHTS)]
    assert served.facts == {"device": "cpu", "precision": "fp32", "threads": "1"}


@pytest.mark.usefixtures("project")
def test_the_words_of_a_merged_export_are_those_of_the_adapter(merged: Path) -> None:
    served, adapter = serve_export(merged, COMPUTE, False), serve_adapter(COMPUTE, False)
    assert served.explainers["model"].method == adapter.explainers["model"].method
    for text in TEXTS[:3]:
        ours, wanted = (one.explainers["model"].explain(text) for one in (served, adapter))
        assert ours.target == wanted.target
        assert [word[:2] for word in ours.words] == [word[:2] for word in wanted.words]
        scores = [word[2] for word in ours.words]
        assert scores == pytest.approx([word[2] for word in wanted.words], abs=0.02)


@pytest.mark.usefixtures("project")
def test_the_base_can_be_served_beside_an_export(merged: Path) -> None:
    served, adapter = serve_export(merged, COMPUTE, True), serve_adapter(COMPUTE, True)
    assert set(served.explainers) == {"model", "base"}
    assert str(paths.HEAD_WEIGHTS) in served.files
    assert str(paths.ADAPTER_WEIGHTS) not in served.files
    questions = [Question(text, with_base=True) for text in TEXTS]
    for ours, wanted in zip(score(served, questions), score(adapter, questions), strict=True):
        bases = [
            answer(s, row, True, True, True).base for s, row in ((served, ours), (adapter, wanted))
        ]
        assert bases[0] == bases[1]


@pytest.mark.usefixtures("project")
def test_without_a_base_in_models_there_is_none_beside_an_export(merged: Path) -> None:
    shutil.rmtree(paths.HEAD)
    with pytest.raises(HostError, match="models/head not found"):
        serve_export(merged, COMPUTE, True)


@pytest.mark.usefixtures("project")
def test_a_damaged_export_is_one_line(merged: Path, tmp_path: Path) -> None:
    shutil.copytree(merged, tmp_path / "damaged")
    with (tmp_path / "damaged" / paths.EXPORT_WEIGHTS).open("ab") as file:
        file.write(b"x")
    with pytest.raises(ModelError, match=r"model\.safetensors: damaged"):
        serve_export(tmp_path / "damaged", COMPUTE, False)


@pytest.mark.slow
@pytest.mark.parametrize("int8", [False, True])
def test_an_onnx_export_answers_and_is_explained_by_occlusion(
    project: Path, tmp_path: Path, int8: bool
) -> None:
    pytest.importorskip("onnxruntime")
    classifier, _ = plain_classifier(COMPUTE, "model", project)
    folder = exported(classifier, tmp_path / "o", Wanted("onnx", int8=int8))
    served, adapter = serve_export(folder, COMPUTE, False), serve_adapter(COMPUTE, False)
    close = 0.5 if int8 else 1e-4
    np.testing.assert_allclose(served.model.score(TEXTS), adapter.model.score(TEXTS), atol=close)
    assert served.facts["precision"] == ("int8" if int8 else "fp32")
    assert served.explainers["model"].method.startswith("occlusion")
    text = "w1 good w2"
    found = served.explainers["model"].explain(text)
    start, end, _ = max(found.words, key=lambda word: word[2])
    assert served.model.labels[found.target] == "positive"
    assert text[start:end] == "good"
