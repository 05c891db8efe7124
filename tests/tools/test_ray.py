"""The lines of models/README.md for files that outgrow one machine, run as they stand there."""

import importlib.util
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from stages.tools.export import Wanted
from stages.tools.predictor import open_predictor
from tests.support.exports import exported, trained
from tests.support.tiny import ROOT, table


@pytest.mark.slow
@pytest.mark.skipif(importlib.util.find_spec("ray") is None, reason="ray is not installed")
def test_two_workers_answer_as_one_predictor(load_tiny_base: Any, tmp_path: Path) -> None:
    (tmp_path / "models").mkdir()
    classifier = trained(load_tiny_base("bert", pooling="mean"))
    folder = exported(classifier, tmp_path / "models/onnx", Wanted("onnx"))
    texts = [text for text, _ in table(classes=2, rows=40, seed=5)]
    (tmp_path / "texts").mkdir()
    for part in range(4):
        frame = pd.DataFrame({"text": texts[part::4]})
        frame.to_parquet(tmp_path / f"texts/{part}.parquet")
    readme = (ROOT / "models/README.md").read_text(encoding="utf-8")
    (lines,) = re.findall(r"<!-- ray -->.*?```python\n(.*?)```", readme, re.DOTALL)
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "RAY_USAGE_STATS_ENABLED": "0"}
    lines = "import ray\nray.init(num_cpus=4)\n" + lines  # whatever this machine has
    subprocess.run([sys.executable, "-c", lines], cwd=tmp_path, env=environment, check=True)
    answers = pd.read_parquet(tmp_path / "answers").set_index("text")
    assert sorted(answers.index) == sorted(texts)
    predictor = open_predictor(folder, threads=1)
    shares = predictor.shares(predictor.logits(texts))
    found = answers.loc[texts]
    assert found["label"].tolist() == [predictor.labels[row.argmax()] for row in shares]
    assert found["probability"].tolist() == pytest.approx(shares.max(axis=1).tolist(), abs=1e-5)
