"""The same inputs give the same bytes; another seed gives others."""

from __future__ import annotations

from contextlib import chdir
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from stages.core import paths
from stages.core.params import Params
from stages.model.device import set_up
from stages.prepare import prepare
from stages.rows.prepared import read_labels, read_split
from stages.scoring.logits import predict_logits, probabilities_of
from stages.scoring.predictions import write_predictions
from stages.train_lora import train_lora
from tests.support.faults import assert_succeeded, stage
from tests.support.tiny import COMPUTE, changed, run_all, save_params, save_table, table

if TYPE_CHECKING:
    from stages.model.classifier import Classifier

SPLITS = (paths.TRAIN, paths.VALIDATION, paths.TEST)


def content(folder: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


@pytest.mark.usefixtures("tmp_cwd")
def test_a_second_run_gives_the_same_bytes(finished_run: Path, params: Params) -> None:
    save_params(params)
    save_table(table(classes=2))
    run_all(params)
    first, second = content(finished_run), content(Path())
    assert first.keys() == second.keys()
    assert [name for name in first if first[name] != second[name]] == []


def test_another_training_in_the_same_process_gives_the_same_adapter(
    finished_run: Path, trained_adapter: tuple[Path, Classifier]
) -> None:
    card = paths.MODEL_CARD.name  # written by stage compare
    expected = {k: v for k, v in content(finished_run / paths.ADAPTER).items() if k != card}
    assert content(trained_adapter[0] / paths.ADAPTER) == expected


@pytest.mark.usefixtures("project")
def test_another_seed_gives_another_adapter_and_a_seed_of_the_split_other_rows(
    finished_run: Path, params: Params
) -> None:
    prepare(changed(params, seed=7))
    train_lora(changed(params, seed=7))
    assert all(p.read_bytes() == (finished_run / p).read_bytes() for p in (*SPLITS, paths.LABELS))
    assert paths.ADAPTER_WEIGHTS.read_bytes() != (finished_run / paths.ADAPTER_WEIGHTS).read_bytes()
    prepare(changed(params, data__split_seed=7))
    assert all(p.read_bytes() != (finished_run / p).read_bytes() for p in SPLITS)
    assert paths.LABELS.read_bytes() == (finished_run / paths.LABELS).read_bytes()


def test_a_new_process_scores_as_the_trained_model_in_memory(
    trained_adapter: tuple[Path, Classifier], params: Params
) -> None:
    folder, classifier = trained_adapter
    with chdir(folder):
        assert_succeeded(stage("evaluate_adapter"))
        labels = read_labels()
        test = read_split(paths.TEST, labels)
        length = params.data.max_length
        logits = predict_logits(classifier, test.texts, length, set_up(COMPUTE), "x")
        own = Path("own.csv")
        write_predictions(own, test.ids, test.targets, labels, probabilities_of(logits))
        assert own.read_bytes() == paths.ADAPTER_PREDICTIONS.read_bytes()
