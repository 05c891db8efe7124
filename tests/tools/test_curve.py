"""`bert-lora curve`: nested parts, trainings that are kept, and what is said of them."""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from stages.core import paths
from stages.core.params import Params
from stages.reporting.figures import draw_curve
from stages.reporting.records import curve_advice
from stages.tools import curve as module
from tests.support.tiny import changed


def test_every_part_holds_the_smaller_ones_in_the_classes_proportions() -> None:
    labels = pd.Series(["a"] * 60 + ["b"] * 30 + ["c"] * 10)
    order = module.nested_order(labels, seed=7)
    assert sorted(order) == list(range(100))
    for count in (10, 20, 50, 100):
        found = labels[order[:count]].value_counts()
        assert [found["a"], found["b"], found["c"]] == [
            round(count * share) for share in (0.6, 0.3, 0.1)
        ]
    assert (order != module.nested_order(labels, seed=8)).any()


@pytest.mark.parametrize(
    ("rows", "fewest", "sizes", "expected"),
    [
        (8452, 8, 5, [528, 1056, 2113, 4226, 8452]),
        (100, 24, 5, [25, 50, 100]),
        (10, 24, 5, [10]),
    ],
)
def test_parts_are_halves_of_halves(
    rows: int, fewest: int, sizes: int, expected: list[int]
) -> None:
    assert module.parts(rows, fewest, sizes) == expected


def test_a_finished_training_is_kept(
    project: Path,
    params: Params,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    before = (project / paths.TRAIN).read_bytes()
    quick = changed(params, train__epochs=1)
    trained: list[int] = []
    real = module.figures

    def figures(part: pd.DataFrame, own: Params) -> dict[str, Any]:
        if len(trained) == 1:
            raise KeyboardInterrupt
        trained.append(len(part))
        return real(part, own)

    monkeypatch.setattr(module, "figures", figures)
    monkeypatch.setattr(module, "FEWEST", 2)
    with pytest.raises(KeyboardInterrupt):
        module.curve(quick, sizes=2, seeds=1)
    monkeypatch.setattr(module, "figures", real)
    module.curve(quick, sizes=2, seeds=1)
    out = capsys.readouterr().out
    assert "0 trainings done before, 2 to come" in out
    assert "1 trainings done before, 1 to come" in out
    lines = pd.read_csv(paths.CURVE)
    assert list(lines["rows"]) == [trained[0], len(pd.read_parquet(paths.TRAIN))]
    assert lines["curve"].nunique() == 1
    # The whole is what the pipeline trains on.
    assert lines["tfidf"].iloc[-1] == pytest.approx(
        pd.read_json(paths.TFIDF_METRICS, typ="series")["accuracy"], abs=1e-6
    )
    assert (project / paths.TRAIN).read_bytes() == before
    module.curve(changed(quick, train__epochs=2), sizes=2, seeds=1)  # other settings: another curve
    assert pd.read_csv(paths.CURVE)["curve"].nunique() == 2


def trainings(gains: dict[int, list[float]]) -> pd.DataFrame:
    return pd.DataFrame(
        {"rows": rows, "seed": seed, "tfidf": 0.6, "base": 0.7, "adapter": 0.7 + gain}
        for rows, of in gains.items()
        for seed, gain in enumerate(of)
    )


@pytest.mark.parametrize(
    ("gains", "words"),
    [
        ({100: [-0.02, 0.03], 200: [0.04, 0.05]}, "With none of these"),
        ({100: [-0.02, 0.02, 0.0], 200: [0.04, 0.05, 0.06]}, "From 200 training rows on LoRA is"),
        ({100: [0.1], 200: [0.1]}, "One seed for each"),
    ],
)
def test_what_is_said_follows_from_the_intervals(gains: dict[int, list[float]], words: str) -> None:
    said = curve_advice(trainings(gains))
    assert said.startswith(words)
    change = 100 * (np.mean(gains[200]) - np.mean(gains[100]))
    assert f"From 100 to 200 rows its accuracy changes by {change:+.1f} points" in said
    assert draw_curve(trainings(gains)).axes[0].get_xticks().tolist() == [100, 200]
