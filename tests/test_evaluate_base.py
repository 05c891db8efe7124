"""Stage evaluate_base: what it writes, and that the test rows do not reach the head."""

from __future__ import annotations

import csv
import json
from contextlib import chdir
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from stages.core import paths
from stages.core.artefacts import sha256_of
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
        with paths.BASE_PREDICTIONS.open(encoding="utf-8", newline="") as file:
            rows = list(csv.DictReader(file))
        scores = json.loads(paths.BASE_METRICS.read_text(encoding="utf-8"))
    assert [row["id"] for row in rows] == test.ids
    assert [row["predicted"] for row in rows] == [labels[n] for n in logits.argmax(dim=1)]
    for row, values in zip(rows, torch.softmax(logits, dim=1), strict=True):
        assert [float(row[f"p_{label}"]) for label in labels] == pytest.approx(values.tolist())
    right = np.mean([row["label"] == row["predicted"] for row in rows])
    assert scores["accuracy"] == pytest.approx(right)


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


def test_the_floors_are_those_of_the_data(finished_run: Path) -> None:
    scores = json.loads((finished_run / paths.HEAD_FIT).read_text(encoding="utf-8"))
    shares = json.loads((finished_run / paths.DATA_SUMMARY).read_text(encoding="utf-8"))["share"]
    majority = max(shares["train"], key=shares["train"].get)
    assert scores["majority"] == pytest.approx(shares["test"][majority])
    assert 0 < scores["untrained"] < 1
    assert scores["untrained_sd"] > 0


@pytest.mark.usefixtures("project")
def test_it_says_what_it_found(params: Params, capsys: pytest.CaptureFixture[str]) -> None:
    evaluate_base(changed(params, head__l2=[0.25]))
    accuracy = json.loads(paths.BASE_METRICS.read_text(encoding="utf-8"))["accuracy"]
    line = f"base: accuracy {accuracy:.4f} on 20 test rows, L2 0.25\n"
    assert capsys.readouterr().out == line


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
    tokens = json.loads(paths.TOKENS.read_text(encoding="utf-8"))
    assert tokens["test_rows_read_as_a_training_row"] == 1


@pytest.mark.usefixtures("project")
def test_the_fit_starts_from_a_head_of_the_seed(params: Params) -> None:
    short = changed(params, head__l2=[0.00001])
    hashes = set()
    for seed in (1, 2, 1):
        evaluate_base(changed(short, seed=seed))
        hashes.add(sha256_of(paths.HEAD_WEIGHTS))
    assert len(hashes) == 2


@pytest.mark.usefixtures("project")
def test_how_the_head_was_fitted_is_recorded(params: Params) -> None:
    evaluate_base(changed(params, head__l2=[0.25]))
    fit = json.loads(paths.HEAD_FIT.read_text(encoding="utf-8"))
    assert set(fit) == {"l2", "temperature", "majority", "untrained", "untrained_sd"}
    assert fit["l2"] == 0.25
