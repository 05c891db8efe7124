"""The numbers behind the plots against scikit-learn, and the files that dvc.yaml draws."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from sklearn import metrics

from stages.core.params import load_params
from stages.reporting.details import gain_edges, roc_curve, write_curves
from tests.support.example_results import example
from tests.support.tiny import ROOT


def test_the_roc_curve_of_two_classes_has_the_area_of_scikit_learn() -> None:
    chance = np.random.default_rng(1)
    targets = chance.integers(2, size=5000)
    positive = 1 / (1 + np.exp(-chance.normal(size=5000) - targets))
    false, true = roc_curve(np.stack([1 - positive, positive], axis=1), targets)
    assert (false[0], true[0], false[-1], true[-1]) == (0, 0, 1, 1)
    assert (np.diff(true) >= 0).all()
    assert np.trapezoid(true, false) == pytest.approx(
        metrics.roc_auc_score(targets, positive), abs=2e-3
    )


def test_of_several_classes_the_curves_are_averaged() -> None:
    chance = np.random.default_rng(2)
    targets = chance.integers(3, size=5000)
    powers = np.exp(chance.normal(size=(5000, 3)) + np.eye(3)[targets])
    table = powers / powers.sum(axis=1, keepdims=True)
    false, true = roc_curve(table, targets)
    area = metrics.roc_auc_score(targets, table, multi_class="ovr")
    assert np.trapezoid(true, false) == pytest.approx(area, abs=2e-3)


def test_every_bin_of_the_gain_holds_as_many_possible_gains() -> None:
    curves = example(load_params(ROOT / "params.yaml"), ["no", "yes"], rows=1000).curves
    edges = gain_edges(curves)
    widths = np.diff(edges) * 1000 / 100  # in rows
    assert widths == pytest.approx(np.full(len(widths), round(widths[0])))
    assert edges[0] < 100 * curves.gains.min()
    assert edges[-1] > 100 * curves.gains.max()
    assert 20 <= len(widths) <= 80


def test_curves_are_written_for_both(tmp_path: Path) -> None:
    results = example(load_params(ROOT / "params.yaml"), ["no", "yes"])
    write_curves(results.curves, tmp_path / "curves")
    files = sorted(file.name for file in (tmp_path / "curves").iterdir())
    assert files == ["gain.csv", *(f"{kind}_{who}.csv" for kind in ("reliability", "roc")
                                   for who in ("adapter", "base"))]  # fmt: skip
    gain = pd.read_csv(tmp_path / "curves" / "gain.csv")
    assert gain["share"].sum() == pytest.approx(1, abs=1e-4)
    mean = (gain["gain_points"] * gain["share"]).sum()
    assert mean == pytest.approx(100 * results.gain.gain, abs=0.2)
