"""A stage without one of its inputs names the stage that makes it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from stages.compare import compare
from stages.core import paths
from stages.core.artefacts import maker_of
from stages.core.errors import HostError
from stages.core.params import Params
from stages.evaluate_adapter import evaluate_adapter
from stages.evaluate_base import evaluate_base
from stages.evaluate_tfidf import evaluate_tfidf
from stages.train_lora import train_lora

ROWS = (paths.TRAIN, paths.VALIDATION, paths.TEST, paths.LABELS)
INPUTS: dict[Callable[[Params], object], tuple[Path, ...]] = {
    evaluate_tfidf: ROWS,
    evaluate_base: (*ROWS, paths.BASE_MODEL),
    train_lora: (paths.HEAD, paths.BASE_MODEL),
    evaluate_adapter: (paths.TEST, paths.LABELS, paths.ADAPTER),
    compare: (paths.BASE_PREDICTIONS, paths.ADAPTER_PREDICTIONS),
}


@pytest.mark.usefixtures("project")
@pytest.mark.parametrize(
    ("stage", "path"), [(stage, path) for stage, inputs in INPUTS.items() for path in inputs]
)
def test_a_missing_input_names_the_stage_that_makes_it(
    params: Params, stage: Callable[[Params], object], path: Path
) -> None:
    path.rename("away")
    with pytest.raises(HostError, match=f"{path} not found.*dvc repro {maker_of(path)}"):
        stage(params)
