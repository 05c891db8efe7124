"""Artefacts that do not belong together are found, though each of them is intact."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch
from safetensors.torch import load_file, save_file

from stages.core import paths
from stages.core.errors import DataError, ModelError
from stages.tools.verify_meaning import check_meaning

pytestmark = pytest.mark.usefixtures("project")


def change(path: Path, **values: Any) -> None:
    """Change keys of a JSON file."""
    content = json.loads(path.read_text(encoding="utf-8"))
    path.write_text(json.dumps(content | values), encoding="utf-8")


def test_what_a_run_leaves_belongs_together() -> None:
    check_meaning()


def test_a_weight_that_is_not_finite_is_named() -> None:
    tensors = load_file(paths.HEAD_WEIGHTS)
    name = min(tensors)
    tensors[name].view(-1)[0] = torch.nan
    save_file(tensors, paths.HEAD_WEIGHTS)
    with pytest.raises(ModelError, match=f"{name} holds a value that is not finite"):
        check_meaning()


@pytest.mark.parametrize("path", [paths.BASE_METRICS, paths.ADAPTER_METRICS])
def test_a_metric_that_the_predictions_do_not_give_is_named(path: Path) -> None:
    change(path, f1_macro=0.125)
    with pytest.raises(DataError, match=f"{path}: f1_macro 0.125, the predictions give"):
        check_meaning()


def test_predictions_of_other_rows_are_named() -> None:
    frame = pd.read_csv(paths.BASE_PREDICTIONS)
    frame.iloc[1:].to_csv(paths.BASE_PREDICTIONS, index=False)
    with pytest.raises(DataError, match="its rows or labels are not those of data/test"):
        check_meaning()


def test_a_comparison_of_other_metrics_is_named() -> None:
    change(paths.COMPARISON, accuracy_base=0.125)
    with pytest.raises(DataError, match=r"accuracy_base is not that of metrics/base\.json"):
        check_meaning()


def test_every_fault_is_reported_with_the_exit_code_of_the_first() -> None:
    change(paths.ADAPTER_MANIFEST, labels=["other", "labels"])
    change(paths.COMPARISON, accuracy_base=0.125)
    with pytest.raises(ModelError) as caught:
        check_meaning()
    assert len(caught.value.faults) == 2
