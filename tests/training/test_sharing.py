"""Several processes train to what one does: the same rows in the same steps, rightly weighted."""

from __future__ import annotations

import shutil
from pathlib import Path

import pandas as pd
import pytest

from stages.core import paths
from stages.core.errors import ParamsError
from stages.core.params import Params
from stages.model.device import processes_of, share_of
from tests.support.faults import assert_succeeded
from tests.support.processes import assert_same_weights, start_stage, weights
from tests.support.tiny import changed, save_params


def test_a_batch_that_cannot_be_divided_is_refused(params: Params) -> None:
    assert share_of(32, 4) == 8
    with pytest.raises(ParamsError) as caught:
        share_of(30, 4)
    assert str(caught.value) == (
        "error: params.yaml: train.batch_size: 30 rows cannot be divided over 4 processes. "
        "Fix: set train.batch_size to a multiple of 4, for example 32"
    )
    with pytest.raises(ParamsError, match="8 rows cannot be divided over 3 processes"):
        processes_of(changed(params, compute__processes=3))


def train(params: Params, processes: int) -> str:
    """Train anew in the current project, and return what is printed."""
    shutil.rmtree(paths.ADAPTER, ignore_errors=True)
    shutil.rmtree(paths.CHECKPOINTS, ignore_errors=True)
    save_params(changed(params, compute__processes=processes))
    return assert_succeeded(start_stage("train_lora").finish())


def without_dropout(params: Params, **changes: object) -> Params:
    return changed(params, lora__lora_dropout=0.0, train__patience=0, **changes)


@pytest.mark.slow
@pytest.mark.usefixtures("project")
@pytest.mark.parametrize("method", ["lora", "full", "head"])
def test_two_processes_train_to_the_weights_of_one(params: Params, method: str) -> None:
    pd.read_parquet(paths.TRAIN).head(56).to_parquet(paths.TRAIN)  # whole batches
    wanted = without_dropout(params, train__method=method, train__full_learning_rate=0.001)
    train(wanted, 1)
    alone, curve = weights(), pd.read_csv(paths.TRAINING_CURVES / "train.csv")
    looks = pd.read_csv(paths.TRAINING_CURVES / "validation.csv")
    output = train(wanted, 2)
    assert_same_weights(alone, weights())
    together = pd.read_csv(paths.TRAINING_CURVES / "train.csv")
    pd.testing.assert_frame_equal(curve, together, rtol=1e-3, atol=1e-5)
    others = pd.read_csv(paths.TRAINING_CURVES / "validation.csv")
    pd.testing.assert_frame_equal(looks, others, rtol=1e-3, atol=1e-5)
    assert output.count("parameters train") == 1  # one process prints
    assert len([line for line in output.splitlines() if line.startswith("step ")]) == len(looks)


@pytest.mark.slow
def test_scoring_in_two_processes_gives_the_same_figures(project: Path, params: Params) -> None:
    files = (
        *(paths.BASE_METRICS, paths.ADAPTER_METRICS, paths.HEAD_FIT),
        *(paths.BASE_PREDICTIONS, paths.ADAPTER_PREDICTIONS),
    )
    before = {path: path.read_text(encoding="utf-8") for path in files}
    save_params(changed(params, compute__processes=2))
    for stage in ("evaluate_base", "evaluate_adapter"):
        assert_succeeded(start_stage(stage).finish())
    for path in (paths.BASE_PREDICTIONS, paths.ADAPTER_PREDICTIONS):
        (project / "old.csv").write_text(before[path], encoding="utf-8")
        pd.testing.assert_frame_equal(pd.read_csv("old.csv"), pd.read_csv(path), atol=1e-5)
    assert paths.HEAD_FIT.read_text(encoding="utf-8") == before[paths.HEAD_FIT]
