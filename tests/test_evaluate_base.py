"""Stage evaluate_base: what it writes, and that the test rows do not reach the head."""

from __future__ import annotations

from contextlib import chdir
from pathlib import Path

import pandas as pd
import pytest
import torch

from stages.core import paths
from stages.core.artefacts import read_json, sha256_of
from stages.core.params import Params
from stages.evaluate_base import evaluate_base
from stages.model.device import set_up
from stages.model.head import load_head
from stages.model.load import load_base
from stages.rows.prepared import read_split
from stages.scoring.logits import predict_logits
from tests.support.tiny import COMPUTE, NAMES, changed


def test_the_scores_are_those_of_the_saved_head(finished_run: Path, params: Params) -> None:
    with chdir(finished_run):
        labels = list(NAMES[:2])
        base = load_base(paths.BASE_MODEL, labels, 7, set_up(COMPUTE), params.model.pooling)
        load_head(base, paths.HEAD)
        test = read_split(paths.TEST, labels)
        logits = predict_logits(base, test.texts, params.data.max_length, set_up(COMPUTE), "x")
        rows, scores = pd.read_csv(paths.BASE_PREDICTIONS), read_json(paths.BASE_METRICS)
    assert rows["id"].tolist() == test.ids
    assert rows["predicted"].tolist() == [labels[n] for n in logits.argmax(dim=1)]
    probabilities = rows[[f"p_{label}" for label in labels]].to_numpy()
    assert probabilities == pytest.approx(torch.softmax(logits, dim=1).numpy(), abs=1e-6)
    assert scores["accuracy"] == pytest.approx((rows["label"] == rows["predicted"]).mean())


@pytest.mark.usefixtures("project")
def test_the_test_rows_do_not_reach_the_head(
    params: Params, capsys: pytest.CaptureFixture[str]
) -> None:
    wide = changed(params, head__l2=[0.001, 10.0])
    paths.VALIDATION.write_bytes(paths.TRAIN.read_bytes())  # likes a low penalty
    evaluate_base(wide)
    before = sha256_of(paths.HEAD / "head.safetensors")
    frame = pd.read_parquet(paths.TRAIN)
    swapped = dict(zip(NAMES[:2], NAMES[1::-1], strict=True))
    frame.assign(label=frame["label"].map(swapped)).to_parquet(paths.TEST)  # likes a high one
    evaluate_base(wide)
    assert sha256_of(paths.HEAD / "head.safetensors") == before
    assert capsys.readouterr().out.count("L2 0.001\n") == 2


@pytest.mark.usefixtures("project")
def test_the_fit_and_the_floors_are_recorded_and_said(
    params: Params, capsys: pytest.CaptureFixture[str]
) -> None:
    evaluate_base(changed(params, head__l2=[0.25]))
    accuracy = read_json(paths.BASE_METRICS)["accuracy"]
    line = f"base: accuracy {accuracy:.4f} on 20 test rows, L2 0.25\n"
    assert capsys.readouterr().out == line
    fit, shares = read_json(paths.HEAD_FIT), read_json(paths.DATA_SUMMARY)["share"]
    assert set(fit) == {"l2", "temperature", "majority", "untrained", "untrained_sd"}
    assert fit["l2"] == 0.25
    majority = max(shares["train"], key=shares["train"].get)
    assert fit["majority"] == pytest.approx(shares["test"][majority])
    assert 0 < fit["untrained"] < 1
    assert fit["untrained_sd"] > 0


@pytest.mark.usefixtures("project")
def test_test_rows_that_the_base_reads_as_a_training_row_are_counted(
    params: Params, capsys: pytest.CaptureFixture[str]
) -> None:
    rows, known = pd.read_parquet(paths.TEST), pd.read_parquet(paths.TRAIN)["text"]
    rows.loc[4, "text"] = known[6].replace(" ", "  ")  # the tokenizer drops spaces
    rows.to_parquet(paths.TEST)
    evaluate_base(params)
    assert f"reads 1 of 20 test rows exactly as a training row (the first is {rows['id'][4]})" in (
        capsys.readouterr().err
    )
    assert read_json(paths.TOKENS)["test_rows_read_as_a_training_row"] == 1


@pytest.mark.usefixtures("project")
def test_the_fit_starts_from_a_head_of_the_seed(params: Params) -> None:
    short = changed(params, head__l2=[0.00001])
    hashes = set()
    for seed in (1, 2, 1):
        evaluate_base(changed(short, seed=seed))
        hashes.add(sha256_of(paths.HEAD_WEIGHTS))
    assert len(hashes) == 2
