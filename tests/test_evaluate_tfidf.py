"""Stage evaluate_tfidf: chosen on validation, scored on test, without a model of any kind."""

from __future__ import annotations

import sys

import pandas as pd
import pytest

from stages.core import paths
from stages.core.artefacts import read_json
from stages.core.params import Params
from stages.evaluate_tfidf import evaluate_tfidf
from tests.support.faults import assert_succeeded, call
from tests.support.tiny import ROOT, changed


@pytest.mark.usefixtures("project")
def test_scores_are_those_of_the_predictions_and_no_seed_changes_them(params: Params) -> None:
    before = paths.TFIDF_PREDICTIONS.read_bytes()
    evaluate_tfidf(changed(params, seed=99))
    assert paths.TFIDF_PREDICTIONS.read_bytes() == before
    scores, frame = read_json(paths.TFIDF_METRICS), pd.read_csv(paths.TFIDF_PREDICTIONS)
    assert scores["accuracy"] == pytest.approx((frame["label"] == frame["predicted"]).mean())
    assert scores["c"] in params.tfidf.c
    assert scores["ngrams"] in params.tfidf.ngrams
    assert scores["accuracy"] >= 0.7  # a word of each text gives its label
    assert frame["id"].tolist() == pd.read_csv(paths.BASE_PREDICTIONS)["id"].tolist()


@pytest.mark.usefixtures("project")
def test_the_stage_imports_no_torch() -> None:
    code = "import sys, stages.evaluate_tfidf as e; from stages.core.params import load_params\n"
    code += "e.evaluate_tfidf(load_params()); assert 'torch' not in sys.modules"
    assert_succeeded(call(sys.executable, "-c", code, PYTHONPATH=str(ROOT)))
