"""Scores and curves against scikit-learn, flipped rows, groups, and what is answered."""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from sklearn import metrics

from stages.reporting.details import (
    CONTRAST,
    NEGATION,
    accuracy_answered,
    confused_pairs,
    find_flips,
    roc_auc,
    roc_curve,
    scores_of,
    write_curves,
    write_rows,
)
from stages.scoring.scores import with_temperature
from tests.support.example_results import example, predictions, texts_of
from tests.support.tiny import shipped

LABELS = ["a", "b", "c"]


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


def test_the_commonest_mistakes_come_first() -> None:
    adapter = np.array([[5, 3, 0], [1, 9, 4], [0, 0, 7]])
    base = np.array([[5, 2, 1], [8, 4, 2], [0, 0, 7]])
    found = confused_pairs({"base": base, "adapter": adapter}, LABELS)
    assert found[["true", "predicted", "base", "adapter"]].to_numpy().tolist() == [
        ["b", "c", 2, 4],
        ["a", "b", 2, 3],
        ["b", "a", 8, 1],
    ]
    assert found["share"].tolist() == pytest.approx([4 / 14, 3 / 8, 1 / 14])


@pytest.mark.parametrize("classes", [2, 3])
def test_the_roc_curve_has_the_area_of_scikit_learn(classes: int) -> None:
    table, targets = made_up(classes, 5000)
    false, true = roc_curve(table, targets)
    assert (false[0], true[0], false[-1], true[-1]) == (0, 0, 1, 1)
    assert np.trapezoid(true, false) == pytest.approx(roc_auc(table, targets), abs=2e-3)


def test_curves_are_written_for_both(tmp_path: Path) -> None:
    write_curves(example(shipped(), ["no", "yes"]).curves, {}, tmp_path / "curves")
    files = {file.stem for file in (tmp_path / "curves").iterdir()}
    kinds = ("answered", "reliability", "roc")
    pairs = {f"{kind}_{who}" for kind in kinds for who in ("adapter", "base")}
    assert files == pairs | {"reliability_raw"}
    assert pd.read_csv(tmp_path / "curves/reliability_raw.csv")["rows"].sum() == 200


@pytest.fixture
def frames() -> tuple[pd.DataFrame, pd.DataFrame, pd.DataFrame]:
    base, adapter = (predictions(LABELS, 300, s, seed=int(s)) for s in (1.0, 2.0))
    return base, adapter, texts_of(base, "word " * 4)


def test_just_the_flipped_rows_are_listed(frames: tuple[pd.DataFrame, ...]) -> None:
    base, adapter, test = frames
    found = find_flips(base, adapter, test[::-1]).rows  # texts go by the id
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
    found = find_flips(base, adapter, test.assign(rating=0.5)).suspects
    assert (found["label"] != found["adapter_predicted"]).all()
    assert (found["rating"] == 0.5).all()
    wrong = adapter[adapter["label"] != adapter["predicted"]]
    surest = wrong.filter(regex="^p_").max(axis=1).nlargest(len(found))
    assert found["adapter_confidence"].tolist() == pytest.approx(surest.tolist())
    assert 0 < len(found) <= 50


def test_the_groups_of_a_kind_hold_every_row_once(frames: tuple[pd.DataFrame, ...]) -> None:
    found = find_flips(*frames)
    sizes: dict[str, int] = {}
    for group in found.groups:
        sizes[group.kind] = sizes.get(group.kind, 0) + group.gain.rows
    kinds = ("class", "base's confidence", "adapter's confidence", "length", "negation", "contrast")
    assert sizes == dict.fromkeys(kinds, 300)
    negated = next(group.gain for group in found.groups if group.name == "with a negation")
    assert negated.rows == 100
    assert negated.low <= negated.gain <= negated.high
    german = frames[2].assign(text="ein Text")  # no English word of either kind
    kinds_of_german = {group.kind for group in find_flips(frames[0], frames[1], german).groups}
    assert not {"negation", "contrast"} & kinds_of_german


def test_groups_are_corrected_for_how_many_are_looked_at() -> None:
    told = 0
    for seed in range(40):  # two models that are equally good
        base, adapter = (predictions(LABELS, 200, 1.5, seed=2 * seed + n) for n in (0, 1))
        groups = find_flips(base, adapter, texts_of(base, "a text")).groups
        # The groups by confidence are chosen by what they compare, so they do differ.
        fair = [group.gain for group in groups if "confidence" not in group.kind]
        told += any(gain.low > 0 or gain.high < 0 for gain in fair)
        assert all(g.distinguishable == (g.low > 0 or g.high < 0) for g in fair)
    assert told <= 4  # 5 % of 40, and two standard deviations


def test_of_many_classes_the_worst_are_groups() -> None:
    labels = [f"class {number}" for number in range(30)]
    base, adapter = (predictions(labels, 900, strength, seed=3) for strength in (1.0, 3.0))
    groups = [g for g in find_flips(base, adapter, texts_of(base, "x")).groups if g.kind == "class"]
    wrong = adapter["label"][adapter["label"] != adapter["predicted"]].value_counts()
    assert [g.gain.rows - round(g.gain.second * g.gain.rows) for g in groups] == wrong[:10].tolist()


@pytest.mark.parametrize(
    ("text", "negation", "contrast"),
    [
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
    write_rows(find_flips(base, adapter, odd).rows, tmp_path / "x.csv")
    assert set(pd.read_csv(tmp_path / "x.csv")["text"]) == {'=cmd(), "quoted"\nline'}
