"""Stage evaluate_adapter: scores of the saved adapter alone, on the rows of the base."""

from __future__ import annotations

import pandas as pd
import pytest

from stages.core import paths
from stages.core.artefacts import read_json
from stages.core.params import Params
from stages.evaluate_adapter import evaluate_adapter
from tests.support.tiny import changed


@pytest.mark.usefixtures("project")
def test_no_seed_and_no_old_result_changes_the_scores(
    params: Params, capsys: pytest.CaptureFixture[str]
) -> None:
    before = [p.read_bytes() for p in (paths.ADAPTER_METRICS, paths.ADAPTER_PREDICTIONS)]
    paths.ADAPTER_METRICS.unlink()
    paths.ADAPTER_PREDICTIONS.write_text("old", encoding="utf-8")
    evaluate_adapter(changed(params, seed=1))
    after = [p.read_bytes() for p in (paths.ADAPTER_METRICS, paths.ADAPTER_PREDICTIONS)]
    assert after == before
    base, adapter = (read_json(p) for p in (paths.BASE_METRICS, paths.ADAPTER_METRICS))
    assert sorted(base) == sorted(adapter) == ["accuracy", "f1_macro", "log_loss"]
    line = f"adapter: accuracy {adapter['accuracy']:.4f} on 20 test rows\n"
    assert capsys.readouterr().out == line
    rows, same = (pd.read_csv(p) for p in (paths.BASE_PREDICTIONS, paths.ADAPTER_PREDICTIONS))
    assert list(rows) == list(same)
    assert rows[["id", "label"]].equals(same[["id", "label"]])
    assert rows["id"].nunique() == 20
