"""What is served from models/: the answers of `bert-lora predict`, hashes, temperatures."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from stages.tools.predict_answers import answers

from stages.core import paths
from stages.core.artefacts import sha256_of
from stages.core.errors import DataError, HostError
from stages.serving.http.answers import Question, answer, score
from stages.serving.served import serve_adapter, temperature_of
from tests.support.tiny import COMPUTE, table

TEXTS = [text for text, _ in table(classes=2, rows=30, seed=5)] + ["w1 " * 40, "good"]


@pytest.fixture
def temperature(project: Path) -> float:
    """Return the adapter's temperature, which the tiny run's is not 1."""
    assert Path.cwd() == project
    value = json.loads(paths.ADAPTER_METRICS.read_text(encoding="utf-8"))["temperature"]
    assert abs(value - 1) > 0.01
    return float(value)


@pytest.mark.parametrize("size", [1, 5, len(TEXTS)])
def test_answers_are_those_of_predict_whatever_the_batch(temperature: float, size: int) -> None:
    chunks = answers(iter(TEXTS), COMPUTE, with_base=True, every_class=True)
    rows = [row for chunk, _ in chunks for row in chunk]
    served = serve_adapter(COMPUTE, with_base=True)
    assert served.model.temperature == temperature
    questions = [Question(text, with_base=True) for text in TEXTS]
    scored = []
    for start in range(0, len(TEXTS), size):
        scored += score(served, questions[start : start + size])
    for row, one in zip(rows, scored, strict=True):
        for calibrated in (True, False):
            found = answer(served, one, calibrated, every_class=True, with_base=True)
            assert found.base is not None
            assert (found.label, found.base.label) == (row["label"], row["base_label"])
        assert found.base is not None
        assert found.probability == pytest.approx(row["probability"], abs=served.tolerance)
        assert found.base.probability == pytest.approx(
            row["base_probability"], abs=served.tolerance
        )
        shares = np.array([row[f"p_{label}"] for label in served.model.labels])
        powers = shares ** (1 / temperature)
        expected = dict(zip(served.model.labels, powers / powers.sum(), strict=True))
        calibrated_answer = answer(served, one, True, every_class=True, with_base=True)
        assert calibrated_answer.probabilities == pytest.approx(expected, abs=2e-5)
    assert [one.cut for one in scored] == [False] * 30 + [True, False]


def test_files_are_named_by_their_hash(project: Path) -> None:
    served = serve_adapter(COMPUTE, with_base=True)
    assert served.files == {name: sha256_of(project / name) for name in served.files}
    assert {str(paths.ADAPTER_WEIGHTS), str(paths.HEAD_WEIGHTS), "models/base/config.json"} <= set(
        served.files
    )
    assert served.model.sha256 == served.files[str(paths.ADAPTER_WEIGHTS)]
    assert served.facts == {
        **{"device": "cpu", "precision": "fp32"},
        **{"threads": "1", "processes": "1"},
    }
    assert served.model.description == "adapter: LoRA"


@pytest.mark.usefixtures("project")
def test_without_the_head_there_is_no_base() -> None:
    shutil.rmtree(paths.HEAD)
    served = serve_adapter(COMPUTE, with_base=False)
    assert served.base is None
    assert set(served.explainers) == {"model"}
    with pytest.raises(HostError, match="models/head not found"):
        serve_adapter(COMPUTE, with_base=True)


def test_without_metrics_the_temperature_is_one(tmp_path: Path) -> None:
    assert temperature_of(tmp_path / "adapter.json") == 1.0


@pytest.mark.parametrize("value", ['"1"', "0", "-1", "null", "1e999", "true"])
def test_a_temperature_that_is_none_is_one_line(tmp_path: Path, value: str) -> None:
    path = tmp_path / "adapter.json"
    path.write_text(f'{{"temperature": {value}}}', encoding="utf-8")
    with pytest.raises(DataError, match="temperature: expected a positive number"):
        temperature_of(path)
