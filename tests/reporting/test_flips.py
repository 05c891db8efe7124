"""Flipped rows and suspects: which rows, in which order, in which group."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest

from stages.reporting.details import CONTRAST, NEGATION, find_flips, write_rows
from tests.support.example_results import predictions, texts_of

LABELS = ["a", "b", "c"]


@pytest.fixture
def frames() -> tuple[pd.DataFrame, pd.DataFrame, pd.DataFrame]:
    base, adapter = (predictions(LABELS, 300, s, seed=int(s)) for s in (1.0, 2.0))
    return base, adapter, texts_of(base, "word " * 4)


def test_just_the_flipped_rows_are_listed(frames: tuple[pd.DataFrame, ...]) -> None:
    base, adapter, test = frames
    found = find_flips(base, adapter, test[::-1], seed=1).rows  # texts go by the id
    right = {"base": base["label"] == base["predicted"]}
    right["adapter"] = adapter["label"] == adapter["predicted"]
    fixed = set(base["id"][~right["base"] & right["adapter"]])
    broken = set(base["id"][right["base"] & ~right["adapter"]])
    assert set(found["id"][found["change"] == "fixed"]) == fixed
    assert set(found["id"][found["change"] == "broken"]) == broken
    assert len(found) == len(fixed) + len(broken) > 20
    assert found["adapter_confidence"].is_monotonic_decreasing
    assert (found["text"] == test.set_index("id")["text"][found["id"]].to_numpy()).all()
    assert "rating" not in found


def test_suspects_are_the_surest_mistakes(frames: tuple[pd.DataFrame, ...]) -> None:
    base, adapter, test = frames
    found = find_flips(base, adapter, test.assign(rating=0.5), seed=1).suspects
    assert (found["label"] != found["adapter_predicted"]).all()
    assert (found["rating"] == 0.5).all()
    wrong = adapter[adapter["label"] != adapter["predicted"]]
    surest = wrong.filter(regex="^p_").max(axis=1).nlargest(len(found))
    assert found["adapter_confidence"].tolist() == pytest.approx(surest.tolist())
    assert 0 < len(found) <= 50


def test_the_groups_of_a_kind_hold_every_row_once(frames: tuple[pd.DataFrame, ...]) -> None:
    base, adapter, test = frames
    found = find_flips(base, adapter, test, seed=1)
    kinds = {group.kind for group in found.groups}
    assert kinds == {"base's confidence", "length", "negation", "contrast"}
    for kind in kinds:
        groups = [group for group in found.groups if group.kind == kind]
        assert sum(group.rows for group in groups) == 300
        assert sum(group.fixed + group.broken for group in groups) == len(found.rows)
    negated = next(group for group in found.groups if group.name == "with a negation")
    assert negated.rows == 100
    gain = (negated.fixed - negated.broken) / negated.rows
    assert negated.adapter - negated.base == pytest.approx(gain)
    assert negated.low <= gain <= negated.high


@pytest.mark.parametrize(
    ("text", "negation", "contrast"),
    [
        ("It isn't good", True, False),
        ("It isn’t good", True, False),
        ("NO, but yes", True, True),
        ("Nothing to note, a notable cannon", True, False),
        ("buttery", False, False),
        ("Although it shines", False, True),
    ],
)
def test_negation_and_contrast_are_whole_words(text: str, negation: bool, contrast: bool) -> None:
    series = pd.Series([text])
    assert series.str.contains(NEGATION).tolist() == [negation]
    assert series.str.contains(CONTRAST).tolist() == [contrast]


def test_rows_are_written_with_odd_texts(tmp_path: Path, frames: tuple[pd.DataFrame, ...]) -> None:
    base, adapter, test = frames
    odd = test.assign(text='=cmd(), "quoted"\nline')
    rows = find_flips(base, adapter, odd, seed=1).rows
    file = tmp_path / "x.csv"
    write_rows(rows, file)
    assert set(pd.read_csv(file)["text"]) == {'=cmd(), "quoted"\nline'}
