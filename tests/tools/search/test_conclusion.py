"""The end of a search: finalists, further seeds, and whether the best can be told from the rest."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from optuna.study import Study
from optuna.trial import TrialState

from stages.tools.search.conclusion import (
    Finalist,
    enqueue_finals,
    finalists_of,
    results_of,
    verdict_of,
)
from stages.tools.search.space import Entry, check_space
from stages.tools.search.storage import open_storage
from stages.tools.search.study import open_study
from tests.support.tiny import changed, shipped

PARAMS = changed(shipped(), lora__r=8)
ROWS = np.random.default_rng(0).exponential(0.3, 1000)


@pytest.fixture
def space() -> tuple[Entry, ...]:
    return check_space({"lora.r": {"low": 1, "high": 64}}, PARAMS, "search")


@pytest.fixture
def studies(tmp_cwd: Path) -> tuple[Study, Study]:
    storage = open_storage(str(tmp_cwd / "journal.log"))
    return open_study(storage, "search", {}), open_study(storage, "finals", {})


def tried(study: Study, space: tuple[Entry, ...], ranks: dict[int, float | None]) -> None:
    for rank, loss in ranks.items():
        study.enqueue_trial({"lora.r": rank})
        trial = study.ask({entry.path: entry.distribution() for entry in space})
        study.tell(trial, loss, TrialState.COMPLETE if loss else TrialState.PRUNED)


def test_the_finalists_are_the_defaults_and_the_best_that_differ(
    studies: tuple[Study, Study], space: tuple[Entry, ...]
) -> None:
    tried(studies[0], space, {8: 0.1, 4: 0.4, 16: 0.2, 2: None, 32: 0.3})
    tried(studies[0], space, {16: 0.15})
    assert finalists_of(studies[0], space, PARAMS, top=2) == [
        ({}, None),
        ({"lora.r": 16}, 0.15),
        ({"lora.r": 32}, 0.3),
    ]


def test_each_final_is_queued_once_and_all_finalists_have_as_many_seeds(
    studies: tuple[Study, Study],
) -> None:
    finals = studies[1]
    finalists: list[tuple[dict[str, Any], float | None]] = [({}, None), ({"lora.r": 4}, 0.3)]
    for _ in range(2):
        assert enqueue_finals(finals, finalists, [43, 44]) == 4
    queued = [(trial.user_attrs["changes"], trial.user_attrs["seed"]) for trial in finals.trials]
    assert queued == [({}, 43), ({"lora.r": 4}, 43), ({}, 44), ({"lora.r": 4}, 44)]
    for place in range(3):
        trial = finals.ask()
        for name, value in (("loss", 0.3 - 0.1 * place), ("accuracy", 0.8), ("losses", [0.1, 0.2])):
            trial.set_user_attr(name, value)
        finals.tell(trial, 0.3)
    results = results_of(finals, finalists, [43, 44])
    assert [finalist.changes for finalist in results] == [{"lora.r": 4}, {}]
    assert [finalist.seeds for finalist in results] == [[43], [43]]  # one lacks the other seed
    assert [finalist.losses for finalist in results] == [[pytest.approx(0.2)], [0.3]]
    assert results_of(finals, finalists, [44]) == []


def finalist(changes: dict[str, Any], shift: float, noise: float = 0.0) -> Finalist:
    rows = ROWS - shift + noise * np.random.default_rng(1).normal(size=len(ROWS))
    found = 0.2 if changes else None
    return Finalist(changes, found, [43], [float(rows.mean())], [0.8], rows)


@pytest.mark.parametrize(
    ("shift", "noise", "words"),
    [
        (0.02, 0.1, "distinguishable from the defaults"),
        (0.001, 0.3, "not distinguishable from the defaults"),
    ],
)
def test_the_verdict_pairs_the_rows(shift: float, noise: float, words: str) -> None:
    results = [finalist({"lora.r": 4}, shift, noise), finalist({}, 0.0)]
    best, verdict = verdict_of(sorted(results, key=lambda each: each.loss))
    assert best.changes == {"lora.r": 4}
    assert f", {words}" in verdict
    assert "with lora.r=4" in verdict


def test_the_defaults_may_win() -> None:
    best, verdict = verdict_of([finalist({}, 0.1), finalist({"lora.r": 4}, 0.0)])
    assert best.changes == {}
    assert verdict == "no setting of the search beats the defaults on validation"
