"""Every score against scikit-learn or a formula of its own."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from sklearn import metrics

from stages.reporting.details import accuracy_at_coverage, roc_auc, scores_of


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
    found = scores_of(table, targets, labels, temperature=1.0)
    predicted = table.argmax(axis=1)
    one_hot = np.eye(classes)[targets]
    expected = {
        "accuracy": metrics.accuracy_score(targets, predicted),
        "f1_macro": metrics.f1_score(targets, predicted, average="macro"),
        "matthews": metrics.matthews_corrcoef(targets, predicted),
        "log_loss": metrics.log_loss(targets, table),
        "brier": ((table - one_hot) ** 2).sum(axis=1).mean(),
        "roc_auc": metrics.roc_auc_score(
            targets, table[:, 1] if classes == 2 else table, multi_class="ovr"
        ),
    }
    assert {name: found[name] for name in expected} == pytest.approx(expected, rel=1e-9)
    for name in ("log_loss", "brier", "calibration_error"):  # temperature 1 changes nothing
        assert found[f"{name}_raw"] == pytest.approx(found[name], rel=1e-9)
    assert found["accuracy_low"] < found["accuracy"] < found["accuracy_high"]
    report = metrics.classification_report(targets, predicted, output_dict=True)
    for number, label in enumerate(labels):
        theirs = report[str(number)]
        ours = found["by_class"][label]
        assert (ours["precision"], ours["recall"], ours["f1"], ours["rows"]) == pytest.approx(
            (theirs["precision"], theirs["recall"], theirs["f1-score"], theirs["support"])
        )


def test_coverage_keeps_the_surest_rows() -> None:
    table = np.array([[0.9, 0.1], [0.2, 0.8], [0.7, 0.3], [0.45, 0.55], [0.5, 0.5]])
    targets = np.array([0, 1, 1, 0, 1])
    found = [accuracy_at_coverage(table, targets, percent) for percent in (40, 60, 80, 100)]
    assert found == pytest.approx([1, 2 / 3, 2 / 4, 2 / 5])


def test_ties_of_confidence_keep_the_order_of_the_rows() -> None:
    chance = np.random.default_rng(5)
    surest = chance.choice([0.8, 0.9], 1000)
    targets = chance.integers(2, size=1000)
    kept = sorted(range(1000), key=lambda row: -surest[row])[:900]  # Python's sort is stable
    found = accuracy_at_coverage(np.stack([surest, 1 - surest], axis=1), targets, 90)
    assert found == pytest.approx((targets[kept] == 0).mean())


def test_a_class_without_test_rows_has_no_curve() -> None:
    table, targets = made_up(3)
    two = targets < 2
    expected = [metrics.roc_auc_score(targets[two] == n, table[two][:, n]) for n in (0, 1)]
    assert roc_auc(table[two], targets[two]) == pytest.approx(np.mean(expected))
    assert roc_auc(table[:1], targets[:1]) is None
    found = scores_of(table[two], targets[two], ["a", "b", "c"], 2.0)
    assert found["by_class"]["c"]["rows"] == 0
