"""Scores against scikit-learn, flipped rows, groups, and what is answered."""

from typing import Any

import numpy as np
import pandas as pd
import pytest
from sklearn import metrics

from stages.reporting.details import (
    accuracy_answered,
    confused_pairs,
    count_groups,
    describe_rows,
    roc_auc,
    scores_of,
)
from stages.reporting.results import MODELS
from stages.scoring.scores import with_temperature
from tests.support.example_results import predictions, texts_of

LABELS = ["a", "b", "c"]
STRENGTHS = {"base": 1.0, "adapter": 2.0}
Frames = tuple[dict[str, pd.DataFrame], pd.DataFrame]


def made_up(classes: int, rows: int = 300) -> tuple[Any, Any]:
    chance = np.random.default_rng(classes)
    targets = chance.integers(classes, size=rows)
    logits = chance.normal(size=(rows, classes)) + 1.5 * np.eye(classes)[targets]
    powers = np.exp(logits)
    return powers / powers.sum(axis=1, keepdims=True), targets


@pytest.mark.parametrize("classes", [2, 3, 6])
def test_scores_agree_with_scikit_learn(classes: int) -> None:
    table, targets = made_up(classes)
    labels = [f"class {number}" for number in range(classes)]
    scaled = with_temperature(table, 2.0)
    found = scores_of(scaled, targets, labels, temperature=2.0)
    predicted = table.argmax(axis=1)
    expected = {
        "accuracy": metrics.accuracy_score(targets, predicted),
        "f1_macro": metrics.f1_score(targets, predicted, average="macro"),
        "matthews": metrics.matthews_corrcoef(targets, predicted),
        "log_loss": metrics.log_loss(targets, scaled),
        "log_loss_raw": metrics.log_loss(targets, table),
        "brier": ((scaled - np.eye(classes)[targets]) ** 2).sum(axis=1).mean(),
        "roc_auc": metrics.roc_auc_score(
            targets, scaled[:, 1] if classes == 2 else scaled, multi_class="ovr"
        ),
    }
    assert {name: found[name] for name in expected} == pytest.approx(expected, rel=1e-9)
    assert found["accuracy_low"] < found["accuracy"] < found["accuracy_high"]
    report = metrics.classification_report(targets, predicted, output_dict=True)
    for number, label in enumerate(labels):
        theirs, ours = report[str(number)], found["by_class"][label]
        assert (ours["precision"], ours["recall"], ours["f1"], ours["rows"]) == pytest.approx(
            (theirs["precision"], theirs["recall"], theirs["f1-score"], theirs["support"])
        )


def test_a_class_without_test_rows_counts_nowhere() -> None:
    table, targets = made_up(3)
    two = targets < 2
    expected = [metrics.roc_auc_score(targets[two] == n, table[two][:, n]) for n in (0, 1)]
    assert roc_auc(table[two], targets[two]) == pytest.approx(np.mean(expected))
    assert roc_auc(table[:1], targets[:1]) is None
    perfect = scores_of(np.eye(3)[targets[two]] * 0.9 + 0.1 / 3, targets[two], LABELS, 1.0)
    assert perfect["by_class"]["c"]["rows"] == 0
    assert perfect["f1_macro"] == perfect["accuracy"] == 1


def test_the_surest_rows_are_answered_first() -> None:
    table = np.array([[0.9, 0.1], [0.2, 0.8], [0.7, 0.3], [0.45, 0.55], [0.5, 0.5]])
    found = accuracy_answered(table, np.array([0, 1, 1, 0, 1])).set_index("percent")
    assert found["accuracy"][[100, 80, 60]].tolist() == pytest.approx([2 / 5, 2 / 4, 2 / 3])
    assert found["threshold"][[100, 80, 60]].tolist() == pytest.approx([0.5, 0.55, 0.7])
    chance = np.random.default_rng(5)
    surest, targets = chance.choice([0.8, 0.9], 1000), chance.integers(2, size=1000)
    kept = sorted(range(1000), key=lambda row: -surest[row])[:900]  # Python's sort is stable
    ties = accuracy_answered(np.stack([surest, 1 - surest], axis=1), targets).set_index("percent")
    assert ties["accuracy"][90] == pytest.approx((targets[kept] == 0).mean())


@pytest.fixture
def frames() -> tuple[dict[str, pd.DataFrame], pd.DataFrame]:
    models = {name: predictions(LABELS, 300, s, seed=int(s)) for name, s in STRENGTHS.items()}
    return models, texts_of(models["base"], "a text").assign(rating=0.5)


def test_the_commonest_mistakes_come_first(frames: Frames) -> None:
    models, _ = frames
    found = confused_pairs(models)
    labels = [models[name]["label"] for name in MODELS]
    base, adapter = (
        metrics.confusion_matrix(labels[0], models[name]["predicted"], labels=LABELS)
        for name in MODELS
    )
    assert found["adapter"].is_monotonic_decreasing
    assert len(found) == 6
    for _, pair in found.iterrows():
        place = LABELS.index(pair["label"]), LABELS.index(pair["predicted"])
        assert (pair["base"], pair["adapter"]) == (base[place], adapter[place])
        assert pair["share"] == pytest.approx(adapter[place] / adapter[place[0]].sum())


def test_every_row_has_both_answers(frames: Frames) -> None:
    models, test = frames
    found = describe_rows(models, test[::-1])  # texts go by the id
    assert sorted(found["id"]) == sorted(test["id"])
    assert found["adapter_confidence"].is_monotonic_decreasing
    assert (found["text"] == test.set_index("id")["text"][found["id"]].to_numpy()).all()
    right = {name: (of["label"] == of["predicted"]).to_numpy() for name, of in models.items()}
    ids = models["base"]["id"]
    for change, of in (
        ("fixed", ~right["base"] & right["adapter"]),
        ("broken", right["base"] & ~right["adapter"]),
    ):
        assert set(found["id"][found["change"] == change]) == set(ids[of])
    assert (found["rating"] == 0.5).all()
    assert "rating" not in describe_rows(models, test.drop(columns="rating"))


def test_the_groups_of_a_kind_hold_every_row_once(frames: Frames) -> None:
    groups = count_groups(describe_rows(*frames))
    for kind in ("class", "confidence"):
        assert sum(gain.rows for of, _, gain in groups if of == kind) == 300
    assert [name for kind, name, _ in groups if kind == "class"] == LABELS
    unsure = next(gain for _, name, gain in groups if name == "below 60 %")
    sure = frames[0]["adapter"].filter(regex="^p_").max(axis=1)
    assert unsure.rows == (sure < 0.6).sum()


def test_groups_are_corrected_for_how_many_are_looked_at() -> None:
    told = 0
    for seed in range(40):  # two models that are equally good
        base, adapter = (predictions(LABELS, 200, 1.5, seed=2 * seed + n) for n in (0, 1))
        rows = describe_rows({"base": base, "adapter": adapter}, texts_of(base, "a text"))
        # The groups by confidence are chosen by what they compare, so they do differ.
        fair = [gain for kind, _, gain in count_groups(rows) if kind == "class"]
        told += any(gain.low > 0 or gain.high < 0 for gain in fair)
        assert all(g.distinguishable == (g.low > 0 or g.high < 0) for g in fair)
    assert told <= 4  # 5 % of 40, and two standard deviations
