"""The record of a search, what of it belongs to a run, and its figures."""

from typing import Any

import pytest

from stages.reporting.figures import draw_search
from stages.reporting.records import (
    history,
    read_search,
    search_of_run,
    search_settings,
    write_search,
)
from tests.support.tiny import changed, shipped

RATE = "train.learning_rate"
SPACE = {
    RATE: {"low": 0.00033333, "high": 0.004, "log": True},
    "lora.r": {"choices": [8, 16, 32]},
    "train.epochs": {"low": 1, "high": 5},
}
DEFAULTS = changed(shipped(), lora__r=16, train__learning_rate=0.001, train__epochs=2)
BEST = {"lora.r": 32, RATE: 0.002}


def found(**values: Any) -> dict[str, Any]:
    """Return what a search of the shipped data found."""
    verdict = "validation log loss 0.3 with lora.r=32, 0.4 with the defaults"
    return {
        "study": "search-1",
        "data": "abc",
        "settings": search_settings(DEFAULTS),
        "space": SPACE,
        "trials": {"complete": 6, "pruned": 1},
        "finalists": [],
        "best": BEST,
        "verdict": verdict,
    } | values


def rows(number: int = 6) -> list[dict[str, Any]]:
    """Return so many complete trials, and one that was pruned."""
    settings = [
        {RATE: 0.0003333, "lora.r": (8, 16, 32)[n % 3], "train.epochs": 1 + n % 5}
        for n in range(number + 1)
    ]
    states = ["complete"] * number + ["pruned"]
    return [
        {"trial": n, "phase": "search", "state": state, "validation_loss": 0.3 + n / 100} | values
        for n, (state, values) in enumerate(zip(states, settings, strict=True))
    ]


@pytest.mark.usefixtures("tmp_cwd")
@pytest.mark.parametrize(
    ("run", "best", "sentence"),
    [
        ({"lora__r": 32, "train__learning_rate": 0.002}, BEST, "the settings that were found best"),
        ({}, {}, "the settings that were found best"),
        ({}, BEST, "the same"),
        ({}, None, "the same"),
        ({"lora__r": 8}, BEST, "lora.r=8"),
        ({"train__patience": 1, "seed": 3}, BEST, "train.patience=1"),
    ],
)
def test_a_run_is_told_how_it_relates_to_the_search(
    run: dict[str, Any], best: dict[str, Any] | None, sentence: str
) -> None:
    write_search(rows(), found(best=best))
    search = search_of_run(changed(DEFAULTS, **run), "abc")
    assert search is not None
    then = f"The defaults were then lora.r=16, train.epochs=2, {RATE}=0.001"
    assert search[1]["relation"] == f"{then}; this run has {sentence}"


@pytest.mark.usefixtures("tmp_cwd")
@pytest.mark.parametrize(
    ("source", "run"),
    [
        ("other", {}),
        ("abc", {"data__limit": 300}),
        ("abc", {"data__split_seed": 1}),
        ("abc", {"model__pooling": "first"}),
        ("abc", {"model__source": "all-mpnet-base-v2"}),
        ("abc", {"train__method": "full"}),
    ],
)
def test_a_search_of_something_else_is_not_shown(source: str, run: dict[str, Any]) -> None:
    write_search(rows(), found())
    assert search_of_run(changed(DEFAULTS, **run), source) is None


@pytest.mark.usefixtures("tmp_cwd")
def test_the_figure_shows_the_complete_trials() -> None:
    trials = rows(6)
    trials[3]["validation_loss"] = 0.9
    write_search(trials, found())
    search = search_of_run(DEFAULTS, "abc")
    assert search is not None
    figure = draw_search(*search)["search_params"]
    assert figure.get_label() == "The best trial has lora.r=8, train.epochs=1."
    axes = figure.axes[0]
    assert [tick.get_text() for tick in axes.get_xticklabels()] == ["8", "16", "32"]
    # A failed trial does not squeeze the others: three times as far as the median, 0.33.
    assert axes.get_ylim()[1] == pytest.approx(0.39)
    write_search(rows(3), found())
    few = read_search()
    assert few is not None
    assert draw_search(*few) == {}


@pytest.mark.usefixtures("tmp_cwd")
def test_the_history_has_no_trial_without_a_loss() -> None:
    final = {"trial": 9, "phase": "final", "state": "complete", "validation_loss": 0.1}
    write_search([*rows(3)[::-1], final], found())
    table = history(read_search())
    assert table["trial"].tolist() == [1, 2, 3]
    assert table["validation_loss"].tolist() == [0.32, 0.31, 0.3]
    assert table["best_so_far"].tolist() == [0.32, 0.31, 0.3]
    assert history(None).columns.tolist() == ["trial", "validation_loss", "best_so_far"]
    assert history(None).empty
