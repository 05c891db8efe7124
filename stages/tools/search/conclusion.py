"""The end of a search: the best trials and the defaults over further seeds, and what that shows.

The best of fifty trials is partly luck, so it is not the search that names the best setting: a few
finalists are trained again with seeds that chose none of them, the defaults among them.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from statistics import mean
from typing import Any

import numpy as np
from optuna.study import Study
from optuna.trial import FrozenTrial, TrialState

from stages.core.params import Params
from stages.reporting.search_records import shown
from stages.reporting.significance import row_interval
from stages.tools.search.space import Entry, value_at, values_of
from stages.tools.search.storage import patiently
from stages.tools.search.study import counted, final_of, trials_of

Changes = dict[str, Any]
DEFAULTS = "the defaults"


@dataclass(frozen=True)
class Finalist:
    """Settings that were trained again over further seeds.

    Attributes:
        changes: value by the param's path; empty for the defaults.
        found: validation log loss of the trial that found them; None for the defaults.
        seeds: the further seeds.
        losses: validation log loss of each seed.
        accuracies: validation accuracy of each seed.
        rows: log loss of each validation row, mean over the seeds, (rows,).
    """

    changes: Changes
    found: float | None
    seeds: list[int]
    losses: list[float]
    accuracies: list[float]
    rows: np.ndarray[Any, np.dtype[np.float64]]

    @property
    def loss(self) -> float:
        """Mean validation log loss over the seeds."""
        return mean(self.losses)

    @property
    def name(self) -> str:
        """The settings in words."""
        return words(self.changes) if self.changes else DEFAULTS


def words(changes: Changes) -> str:
    """Return changed params as `KEY=VALUE`, one after the other."""
    return ", ".join(f"{path}={shown(value)}" for path, value in changes.items())


def changes_of(trial: FrozenTrial, space: tuple[Entry, ...], params: Params) -> Changes:
    """Return what a trial changed of the params."""
    values = values_of(trial.params, space)
    return {path: value for path, value in values.items() if value != value_at(params, path)}


def finalists_of(
    study: Study, space: tuple[Entry, ...], params: Params, top: int
) -> list[tuple[Changes, float | None]]:
    """Return the defaults and the best `top` other settings, each with the loss it was found by."""
    complete = trials_of(study, TrialState.COMPLETE)
    chosen: list[tuple[Changes, float | None]] = [({}, None)]
    for trial in sorted(complete, key=lambda trial: trial.values[0]):
        changes = changes_of(trial, space, params)
        if changes not in [known for known, _ in chosen] and len(chosen) <= top:
            chosen.append((changes, trial.values[0]))
    return chosen


def enqueue_finals(
    finals: Study, finalists: list[tuple[Changes, float | None]], seeds: list[int]
) -> int:
    """Queue each training of the finals that is not there yet, and return how many there are.

    Seeds come one after the other, so that all finalists have as many whenever the time is up.
    """
    wanted = [{"changes": changes, "seed": seed} for seed in seeds for changes, _ in finalists]
    known = {final_of(trial.user_attrs) for trial in counted(finals)}
    for attributes in wanted:
        if final_of(attributes) not in known:
            patiently(partial(finals.enqueue_trial, {}, attributes))
    return len(wanted)


def results_of(
    finals: Study, finalists: list[tuple[Changes, float | None]], seeds: list[int]
) -> list[Finalist]:
    """Return the finalists over the seeds that all of them were trained with, lowest loss first.

    Empty if there is no such seed.
    """
    done = {final_of(t.user_attrs): t.user_attrs for t in trials_of(finals, TrialState.COMPLETE)}
    keys = {
        seed: [final_of({"changes": changes, "seed": seed}) for changes, _ in finalists]
        for seed in seeds
    }
    shared = [seed for seed in seeds if done.keys() >= set(keys[seed])]
    if not shared:
        return []
    results = []
    for place, (changes, found) in enumerate(finalists):
        runs = [done[keys[seed][place]] for seed in shared]
        losses = [run["loss"] for run in runs]
        rows = np.array([run["losses"] for run in runs]).mean(axis=0)
        accuracies = [run["accuracy"] for run in runs]
        results.append(Finalist(changes, found, shared, losses, accuracies, rows))
    return sorted(results, key=lambda finalist: finalist.loss)


def verdict_of(results: list[Finalist]) -> tuple[Finalist, str]:
    """Return the best finalist, and in words whether it can be told from the defaults.

    The interval is a bootstrap over the validation rows of the mean difference, paired by row; see
    `significance.row_interval`.
    """
    best = results[0]
    default = next(finalist for finalist in results if not finalist.changes)
    if best is default:
        return best, "no setting of the search beats the defaults on validation"
    gain = default.loss - best.loss
    low, high = row_interval(default.rows - best.rows, seed=0)
    told = "distinguishable from" if low > 0 else "not distinguishable from"
    return best, (
        f"validation log loss {best.loss:.4f} with {best.name}, {default.loss:.4f} with "
        f"{DEFAULTS}: lower by {gain:.4f}, 95 % interval {low:.4f} to {high:.4f} over the "
        f"validation rows, {told} the defaults"
    )
