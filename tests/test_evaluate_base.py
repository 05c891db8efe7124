"""Stage evaluate_base: the head it fits is the optimum, and validation chooses the penalty."""

from __future__ import annotations

import csv
import json
from contextlib import chdir
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from sklearn.linear_model import LogisticRegression
from torch.nn.functional import cross_entropy

from stages.core import paths
from stages.core.artefacts import sha256_of
from stages.core.errors import HostError
from stages.core.params import Params
from stages.evaluate_base import UNTRAINED_SEEDS, evaluate_base, fit_head, untrained_accuracies
from stages.model.classifier import head_logits, load_base, load_head, reset_head
from stages.model.device import set_up
from stages.rows.prepared import read_split
from stages.scoring.logits import cached_features, predict_logits
from tests.support.tiny import COMPUTE, NAMES, changed, table

ROWS = table(classes=3, rows=90)
TARGETS = [NAMES.index(label) for _, label in ROWS]
PENALTY = 0.01


def seen(classifier: Any) -> Any:
    return cached_features(classifier, [text for text, _ in ROWS], 32, set_up(COMPUTE), "x")


def loss_of(classifier: Any, features: Any, targets: list[int]) -> float:
    with torch.no_grad():
        return float(cross_entropy(head_logits(classifier, *features), torch.tensor(targets)))


def test_the_fitted_head_is_the_optimum_that_scikit_learn_finds(standing: Any) -> None:
    base = standing("bert", NAMES)
    features = seen(base)
    data = (features, TARGETS)
    assert fit_head(base, data, data, [PENALTY]) == PENALTY

    inputs = features[1].double().numpy()
    model = LogisticRegression(C=1 / (len(TARGETS) * PENALTY), tol=1e-10, max_iter=10_000)
    model.fit(inputs, TARGETS)

    def objective(weights: Any, bias: Any) -> float:
        logits = torch.tensor(inputs @ weights.T + bias)
        loss = cross_entropy(logits, torch.tensor(TARGETS))
        return float(loss) + PENALTY / 2 * float(np.square(weights).sum())

    head = {name: tensor.double().numpy() for name, tensor in base.head_state().items()}
    own = objective(head["classifier.weight"], head["classifier.bias"])
    assert own == pytest.approx(objective(model.coef_, model.intercept_), abs=1e-4)
    assert loss_of(base, features, TARGETS) < 0.9 * np.log(3)


@pytest.mark.parametrize("name", ["bert", "roberta"])
def test_validation_chooses_the_penalty_and_its_head_is_kept(standing: Any, name: str) -> None:
    base = standing(name, NAMES)
    features = seen(base)
    data = (features, TARGETS)
    wrong = [(target + 1) % 3 for target in TARGETS]
    penalties = [1.0, 0.001, 0.1]
    fresh = base.head_state()
    losses = {}
    for penalty in penalties:
        base.model.load_state_dict(fresh, strict=False)
        fit_head(base, data, data, [penalty])
        losses[penalty] = (loss_of(base, features, TARGETS), loss_of(base, features, wrong))
    for place, (targets, best) in enumerate([(TARGETS, 0.001), (wrong, 1.0)]):
        base.model.load_state_dict(fresh, strict=False)
        assert fit_head(base, data, (features, targets), penalties) == best
        assert loss_of(base, features, targets) == losses[best][place]
        assert losses[best][place] == min(pair[place] for pair in losses.values())


def test_the_body_stays_as_it_is(standing: Any) -> None:
    base = standing("bert-no-pooler", NAMES)
    before = {name: tensor.clone() for name, tensor in base.model.state_dict().items()}
    untrained_accuracies(base, seen(base), TARGETS)
    fit_head(base, (seen(base), TARGETS), (seen(base), TARGETS), [PENALTY])
    for name, tensor in base.model.state_dict().items():
        assert torch.equal(tensor, before[name]) is (name not in base.head_state())


def test_untrained_heads_are_one_for_each_seed(standing: Any) -> None:
    base = standing("bert", NAMES)
    features = seen(base)
    found = untrained_accuracies(base, features, TARGETS)
    assert len(found) == UNTRAINED_SEEDS
    for seed in (0, 9):
        reset_head(base, seed)
        with torch.no_grad():
            guessed = head_logits(base, *features).argmax(dim=1)
        assert found[seed] == float((guessed == torch.tensor(TARGETS)).double().mean())
    assert len(set(found)) > 2


def test_the_scores_are_those_of_the_saved_head(finished: Path, params: Params) -> None:
    with chdir(finished):
        labels = list(NAMES[:2])
        base = load_base(paths.BASE_MODEL, labels, 7)
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


def test_the_floors_are_those_of_the_data(finished: Path) -> None:
    scores = json.loads((finished / paths.BASE_METRICS).read_text(encoding="utf-8"))
    shares = json.loads((finished / paths.DATA_SUMMARY).read_text(encoding="utf-8"))["share"]
    majority = max(shares["train"], key=shares["train"].get)
    assert scores["majority"] == pytest.approx(shares["test"][majority])
    assert 0 < scores["untrained"] < 1
    assert scores["untrained_sd"] > 0


@pytest.mark.usefixtures("project")
@pytest.mark.parametrize("path", [paths.TRAIN, paths.VALIDATION, paths.TEST, paths.LABELS])
def test_a_missing_input_names_the_stage_that_makes_it(params: Params, path: Path) -> None:
    path.unlink()
    with pytest.raises(HostError, match="dvc repro prepare"):
        evaluate_base(params)


@pytest.mark.usefixtures("project")
def test_it_says_what_it_found(params: Params, capsys: pytest.CaptureFixture[str]) -> None:
    evaluate_base(changed(params, head__l2=[0.25]))
    accuracy = json.loads(paths.BASE_METRICS.read_text(encoding="utf-8"))["accuracy"]
    line = f"base: accuracy {accuracy:.4f} on 20 test rows, L2 0.25\n"
    assert capsys.readouterr().out == line
