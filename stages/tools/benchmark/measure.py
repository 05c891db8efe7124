"""Measure the contenders in turns, so that a slow moment of the machine affects all of them.

What counts is the ratio within a turn.
"""

from __future__ import annotations

import statistics
from pathlib import Path
from typing import Any

from stages.tools.benchmark.limit import least_work, multiplication_rate
from stages.tools.benchmark.processes import run_contender
from stages.tools.benchmark.setting import Setting

# Padded to one length, every step takes the same time, so fewer are enough.
SHARE_OF_STEPS = {"tutorial": 0.2}
# The tutorial's loop sees the same rows in another order, and takes hours.
TRAINED_THROUGH = ("tuned", "adapters", "full", "ours")
TRAINS_ONLY = ("full",)  # it scores as *tuned* does


def trained_through(
    setting: Setting, names: list[str], seeds: int, adapters: Path | None
) -> dict[str, dict[str, list[float | None]]]:
    """Return figures of full trainings of TRAINED_THROUGH, one a seed.

    They are `validation`, the accuracy after all epochs, and `seconds_to_target`; see
    `contenders.time_one`.
    """
    accuracy: dict[str, list[float | None]] = {n: [] for n in names if n in TRAINED_THROUGH}
    seconds: dict[str, list[float | None]] = {name: [] for name in accuracy}
    for seed in range(1, seeds + 1):
        for name, values in accuracy.items():
            print(f"full training, seed {seed} of {seeds}: {name}", flush=True)
            measured = run_contender(name, 0, seed, setting, adapters)
            values.append(measured["accuracy"])
            seconds[name].append(measured.get("seconds_to_target"))
            print(f"validation accuracy {100 * measured['accuracy']:.2f} %", flush=True)
    return {"validation": accuracy, "seconds_to_target": seconds}


def measure(
    setting: Setting, names: list[str], steps: int, repeats: int, adapters: Path | None
) -> dict[str, Any]:
    """Return rows per second of each contender: one figure a repeat, their median, ratios.

    Args:
        setting: what all contenders share.
        names: the contenders.
        steps: optimiser steps that are timed.
        repeats: turns of each contender.
        adapters: the Python that has the AdapterHub library, or None.
    """
    training: dict[str, list[float]] = {name: [] for name in names}
    scoring: dict[str, list[float]] = {name: [] for name in names if name not in TRAINS_ONLY}
    rates = []
    for repeat in range(repeats):
        rates.append(multiplication_rate(setting))
        for name in names:
            print(f"repeat {repeat + 1} of {repeats}: {name}", flush=True)
            timed = max(2, round(steps * SHARE_OF_STEPS.get(name, 1)))
            speeds = run_contender(name, timed, repeat, setting, adapters)
            training[name].append(speeds["training"])
            if name in scoring:
                scoring[name].append(speeds["scoring"])
    rate, work = statistics.median(rates), least_work(setting)
    return {
        "rows_per_step": setting.params.train.batch_size,
        "steps": steps,
        "precision": setting.device.precision,
        "multiplication_gflops": rate / 1e9,
        "training_gflop_per_row": work["training"] / 1e9,
        "scoring_gflop_per_row": work["scoring"] / 1e9,
        "training": {n: summary(n, training, rate / work["training"]) for n in training},
        "scoring": {n: summary(n, scoring, rate / work["scoring"]) for n in scoring},
    }


def summary(name: str, speeds: dict[str, list[float]], limit: float) -> dict[str, Any]:
    """Return a contender's rows per second, its ratios to the peers turn by turn, its share."""

    def ratio(peer: str) -> dict[str, float]:
        ratios = [own / other for own, other in zip(speeds[name], speeds[peer], strict=True)]
        return {"median": statistics.median(ratios), "low": min(ratios), "high": max(ratios)}

    median = statistics.median(speeds[name])
    return {
        "rows_per_second": speeds[name],
        "median": median,
        "share_of_limit": median / limit,
        "to_tutorial": ratio("tutorial"),
        "to_tuned": ratio("tuned"),
    }
