"""Stage evaluate_tfidf: chosen on validation, scored on test, without a model of any kind."""

from __future__ import annotations

import json

import pandas as pd
import pytest

from stages.core import paths
from stages.core.params import Params
from stages.evaluate_tfidf import evaluate_tfidf
from tests.support.tiny import changed, new_process


@pytest.mark.usefixtures("project")
def test_scores_are_those_of_the_predictions(params: Params) -> None:
    evaluate_tfidf(params)
    scores = json.loads(paths.TFIDF_METRICS.read_text(encoding="utf-8"))
    frame = pd.read_csv(paths.TFIDF_PREDICTIONS)
    assert scores["accuracy"] == pytest.approx((frame["label"] == frame["predicted"]).mean())
    assert scores["c"] in params.tfidf.c
    assert scores["ngrams"] in params.tfidf.ngrams
    assert scores["accuracy"] >= 0.7  # a word of each text gives its label
    base = pd.read_csv(paths.BASE_PREDICTIONS)
    assert frame["id"].tolist() == base["id"].tolist()


@pytest.mark.usefixtures("project")
def test_the_same_bytes_each_time(params: Params) -> None:
    before = paths.TFIDF_PREDICTIONS.read_bytes()
    evaluate_tfidf(changed(params, seed=99))
    assert paths.TFIDF_PREDICTIONS.read_bytes() == before


@pytest.mark.usefixtures("project")
def test_the_stage_imports_no_torch() -> None:
    code = "import sys, stages.evaluate_tfidf as e; from stages.core.params import load_params\n"
    code += "e.evaluate_tfidf(load_params()); assert 'torch' not in sys.modules"
    process = new_process(code)
    output, _ = process.communicate()
    assert process.returncode == 0, output


@pytest.mark.usefixtures("project")
def test_texts_without_a_word_have_a_baseline_too(params: Params) -> None:
    for path in (paths.TRAIN, paths.VALIDATION, paths.TEST):
        frame = pd.read_parquet(path)
        marks = {"negative": "?", "positive": "!"}
        texts = [marks[label] * (n + 1) for n, label in enumerate(frame["label"])]
        frame.assign(text=texts).to_parquet(path)
    evaluate_tfidf(params)
    assert json.loads(paths.TFIDF_METRICS.read_text(encoding="utf-8"))["accuracy"] == 1
