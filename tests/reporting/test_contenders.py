"""The comparison of training methods: its statistics, its sentences and its front."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from scipy.stats import t as student

from stages.core import paths
from stages.core.errors import DataError
from stages.reporting.contenders import advice, draw_contenders, front, read_contenders
from tests.support.scripts import load_script

ROWS = [  # method, trained, accuracy, p_lora
    ("LoRA", 1_300_000, 0.90, None),
    ("full fine-tuning", 22_000_000, 0.91, 0.4),
    ("BitFit", 50_000, 0.89, 0.2),
    ("IA3", 30_000, 0.80, 0.001),
    ("head alone", 800, 0.70, 1e-9),
    ("LN tuning", 10_000, 0.95, 0.01),
]


def table(rows: list[tuple[Any, ...]] = ROWS) -> pd.DataFrame:
    frame = pd.DataFrame(rows, columns=["method", "trained", "accuracy", "p_lora"])
    ends = {"low": frame["accuracy"] - 0.02, "high": frame["accuracy"] + 0.02}
    return frame.assign(data="questions", seeds=5, **ends)


def test_the_sentences_say_what_is_level_what_is_better_and_what_falls_behind() -> None:
    (said,) = advice(table())
    assert said == (
        "questions, 5 seeds each: LN tuning has the most, 95.0 %. LoRA cannot be told from full "
        "fine-tuning and BitFit; better: LN tuning; behind: IA3 and head alone. The smallest "
        "that is level is BitFit with 50,000 trained parameters, 89.0 %."
    )
    (alone,) = advice(table(ROWS[:1]))
    assert "LoRA cannot be told from any other method" in alone


def test_the_front_has_what_nothing_smaller_beats() -> None:
    assert list(front(table())["method"]) == ["head alone", "LN tuning"]
    assert list(front(table(ROWS[:5]))["method"]) == [
        *("head alone", "IA3", "BitFit", "LoRA", "full fine-tuning")
    ]


def test_the_picture_has_a_panel_for_each_data_set() -> None:
    figure = draw_contenders(pd.concat([table(), table().assign(data="films")]))
    assert [axes.get_title(loc="left") for axes in figure.axes] == ["questions", "films"]
    names = [text.get_text() for text in figure.axes[0].texts]
    assert sorted(names) == sorted(name for name, *_ in ROWS)


@pytest.mark.parametrize("content", ["", "a,b\n1,2\n", "data,method,accuracy\nx,LoRA,high\n"])
def test_another_table_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, content: str
) -> None:
    monkeypatch.chdir(tmp_path)
    assert read_contenders().empty
    paths.METHODS.parent.mkdir(parents=True)
    paths.METHODS.write_text(content, encoding="utf-8")
    with pytest.raises(DataError, match=r"records/methods\.csv: not the table of"):
        read_contenders()


@pytest.fixture(scope="module")
def methods() -> Any:
    sys.path.insert(0, str(Path(__file__).parents[2] / ".ci"))  # it imports its neighbour
    return load_script("methods")


def test_a_difference_has_the_variance_of_rows_and_of_seeds(methods: Any) -> None:
    chance = np.random.default_rng(0)
    one, other = chance.random((5, 200)) < 0.8, chance.random((5, 200)) < 0.7
    gain, p = methods.difference(one, other)
    rows = one.mean(0) - other.mean(0)
    parts = [rows.var(ddof=1) / 200, one.mean(1).var(ddof=1) / 5, other.mean(1).var(ddof=1) / 5]
    freedom = sum(parts) ** 2 / sum(v**2 / n for v, n in zip(parts, (199, 4, 4), strict=True))
    assert gain == pytest.approx(one.mean() - other.mean())
    assert p == pytest.approx(2 * student.sf(abs(gain) / sum(parts) ** 0.5, freedom))
    assert methods.difference(one, one[::-1])[0] == pytest.approx(0)
    assert methods.difference(one, one[:1].repeat(5, axis=0))[1] > 0.01
    same = np.ones((5, 10), dtype=bool)
    assert methods.difference(same, same) == (0.0, 1.0)


def test_equal_methods_are_told_apart_as_rarely_as_the_level_says(methods: Any) -> None:
    chance, found = np.random.default_rng(1), []
    for _ in range(400):
        hard = chance.beta(4, 1, 300)  # how likely each row is right, for both
        shift = chance.normal(0, 0.02, (2, 5, 1))  # of a seed
        one, other = (chance.random((5, 300)) < np.clip(hard + s, 0, 1) for s in shift)
        found.append(methods.difference(one, other)[1])
    assert 0.01 < np.mean(np.array(found) < 0.05) < 0.09


def test_p_values_are_corrected_by_holm_and_pairs_are_named(methods: Any) -> None:
    chance = np.random.default_rng(2)
    lines = [
        {"method": name, "right": chance.random((3, 400)) < share}
        for name, share in (("LoRA", 0.8), ("full fine-tuning", 0.85), ("IA3", 0.7))
    ]
    done = {line["method"]: line for line in methods.with_pairs([dict(line) for line in lines])}
    assert "to_lora" not in done["LoRA"]
    assert "right" not in done["IA3"]
    raw = [methods.difference(lines[n]["right"], lines[0]["right"])[1] for n in (1, 2)]
    first, second = sorted(raw)
    corrected = [min(1, 2 * first), max(min(1, 2 * first), second)]
    found = [done[name]["p_lora"] for name in ("full fine-tuning", "IA3")]
    assert sorted(found) == pytest.approx(sorted(corrected), rel=0.01)


def test_an_interval_is_the_wider_of_rows_and_seeds(methods: Any) -> None:
    even = np.tile(np.arange(100) < 80, (5, 1))
    low, high = methods.interval(even)
    assert (round(low, 3), round(high, 3)) == (0.711, 0.867)  # Wilson's for 80 of 100
    uneven = np.array([np.arange(100) < n for n in (60, 70, 80, 90, 100)])
    low, high = methods.interval(uneven)
    half = student.ppf(0.975, 4) * np.std([0.6, 0.7, 0.8, 0.9, 1], ddof=1) / 5**0.5
    assert (low, high) == pytest.approx((0.8 - half, 0.8 + half))


def test_every_contender_has_a_space_that_its_params_take(methods: Any) -> None:
    shipped = methods.load_params()
    for contender in methods.CONTENDERS.values():
        settings = methods.settings_for(contender, shipped)
        assert len(settings.space) in (1, 2)
    assert len(methods.CONTENDERS) >= 12
