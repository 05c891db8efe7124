"""Compare training methods on the same rows, each at its best: metrics/records/methods.csv.

    python .ci/methods.py NAME=SOURCE[,PARAM=VALUE...] ... [--trials 8] [--seeds 5] [--workers 1]

Each method has a search of the same number of trials over its learning rate and, where it has one,
the field that decides its size, on validation rows. The best settings are then trained with further
seeds, which are scored on the test rows. What is finished is kept in models/.search/methods, so the
same command continues. Run it from the repository, after `dvc repro fetch_base`.
"""

import argparse
import contextlib
import json
import multiprocessing
import resource
import shutil
import time
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import optuna
import pandas as pd
from scipy.stats import t as student
from statsmodels.stats.multitest import multipletests
from study import source_of, with_changes

from stages.core import paths
from stages.core.artefacts import read_object, replacing, write_json
from stages.core.params import Params, load_params
from stages.evaluate_adapter import evaluate_adapter
from stages.evaluate_base import evaluate_base
from stages.model.device import set_up
from stages.model.load import load_base
from stages.model.methods import method_of
from stages.prepare import prepare
from stages.reporting.records import settings_of
from stages.reporting.significance import spread, wilson
from stages.rows.prepared import read_labels
from stages.running.run import set_environment
from stages.scoring.predictions import probabilities_of, read_predictions, targets_of
from stages.scoring.scores import calibration_error, log_loss
from stages.tools.search import Search
from stages.tools.search_space import (
    OWN_STORAGE,
    Options,
    Settings,
    check_space,
    value_at,
    with_values,
)
from stages.train_lora import train_lora

WORK = paths.STUDIES / "methods"
RATE = "train.learning_rate"
SMALL = {"low": 0.0005, "high": 0.02, "log": True}  # of methods that add to the weights
LARGE = {"low": 0.002, "high": 0.1, "log": True}  # of those with few numbers, or factors


class Contender(NamedTuple):
    """A method: what it changes in params.yaml, and what its search chooses from."""

    changes: list[str]
    space: dict[str, Any]


def of_peft(kind: str, rate: dict[str, Any], **fields: list[Any]) -> Contender:
    """Return a method of PEFT, with the values to choose from of its fields."""
    first = [f"peft.{name}={choices[0]}" for name, choices in fields.items()]
    space = {f"peft.{name}": {"choices": choices} for name, choices in fields.items()}
    return Contender(["train.method=peft", f"peft.type={kind}", *first], {RATE: rate, **space})


RANKS = {"lora.r": {"choices": [8, 32]}}
CONTENDERS = {
    "LoRA": Contender([], {RATE: SMALL, **RANKS}),
    "rsLoRA": Contender(["lora.use_rslora=true"], {RATE: SMALL, **RANKS}),
    "DoRA": Contender(["lora.use_dora=true"], {RATE: SMALL, **RANKS}),
    "PiSSA": Contender(["lora.init_lora_weights=pissa"], {RATE: SMALL, **RANKS}),
    "IA3": of_peft("IA3", LARGE),
    "VeRA": of_peft("VERA", LARGE, r=[64, 256]),
    "OFT": of_peft("OFT", SMALL, oft_block_size=[16, 64]),
    "LoHa": of_peft("LOHA", SMALL, r=[8, 16]),
    "LoKr": of_peft("LOKR", SMALL, r=[8, 32]),
    "MiSS": of_peft("MISS", SMALL, r=[8, 32]),
    "LN tuning": of_peft("LN_TUNING", LARGE),
    "BitFit": Contender(["train.method=bias"], {RATE: LARGE}),
    "head alone": Contender(["train.method=head"], {RATE: LARGE}),
    "full fine-tuning": Contender(
        ["train.method=full"],
        {"train.full_learning_rate": {"low": 0.00003, "high": 0.0005, "log": True}},
    ),
}


def settings_for(contender: Contender, params: Params) -> Settings:
    """Return where the search of a method starts, and its space."""
    own = with_changes(params, contender.changes)
    return Settings(own, {}, contender.space, check_space(contender.space, own))


def best_settings(folder: Path, name: str, params: Params, trials: int) -> dict[str, Any]:
    """Search, or go on with the search, and return the best trial: changes and validation loss."""
    options = Options(trials, None, 1, [], OWN_STORAGE, 0, 0)  # without finals
    with contextlib.chdir(folder):
        search = Search(options, settings_for(CONTENDERS[name], params))
        search.lead()
        complete = search.study.get_trials(states=(optuna.trial.TrialState.COMPLETE,))
        best = min(complete, key=lambda trial: trial.values[0])
        return {"changes": best.user_attrs["changes"], "loss": best.values[0]}


def train_seed(folder: Path, run: Path, params: Params) -> None:
    """Train with one seed in a folder of its own; keep figures and predictions of the test rows."""
    place = run.with_suffix(".running")
    shutil.rmtree(place, ignore_errors=True)
    for path in (paths.TRAIN, paths.VALIDATION, paths.TEST, paths.LABELS, paths.DATA_SUMMARY):
        (place / path).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(folder / path, place / path)
    (place / paths.MODELS).mkdir()
    for path in (paths.BASE_MODEL, paths.HEAD):
        (place / path).symlink_to((folder / path).resolve())
    with contextlib.chdir(place):
        start = time.perf_counter()
        train_lora(params)
        seconds = time.perf_counter() - start
        evaluate_adapter(params)
        steps = int(pd.read_csv(paths.TRAINING_CURVES / "validation.csv")["step"].max())
        device = set_up(params.compute)
        base = load_base(paths.BASE_MODEL, read_labels(), params.seed, device, params.model.pooling)
        count = method_of(params).attach(base, params).model.num_parameters(only_trainable=True)
        facts = {
            "trained": count,
            "bytes": paths.ADAPTER_WEIGHTS.stat().st_size,
            "seconds_a_step": seconds / steps,
            "memory_mib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
            "kept": read_object(paths.ADAPTER_MANIFEST, "kept")["kept"],
            "precision": device.precision,
        }
        write_json(Path("facts.json"), facts)
    run.mkdir(parents=True)
    shutil.copy(place / paths.ADAPTER_PREDICTIONS, run / "adapter.csv")
    shutil.copy(place / "facts.json", run / "facts.json")  # last: it says that the rest is there
    shutil.rmtree(place)


def runs_of(folder: Path, name: str, own: Params, seeds: int) -> dict[int, Path]:
    """Return the folder of each seed's training with these settings."""
    first, stem = own.seed + 1, f"{name}-{settings_of(own)}"
    return {seed: folder / "runs" / f"{stem}-{seed}" for seed in range(first, first + seeds)}


def work(task: tuple[Path, str, Params, int, int]) -> tuple[str, str, dict[str, Any]]:
    """Search and train one method on one data set; return both names and the best settings."""
    folder, name, params, trials, seeds = task
    best = best_settings(folder, name, params, trials)
    own = with_values(settings_for(CONTENDERS[name], params).params, best["changes"])
    for seed, run in runs_of(folder, name, own, seeds).items():
        if not (run / "facts.json").exists():
            shutil.rmtree(run, ignore_errors=True)
            train_seed(folder, run, with_values(own, {"seed": seed}))
            print(f"{folder.name}: {name}: seed {seed} done", flush=True)
    return folder.name, name, best | {"params": own}


def line_of(folder: Path, name: str, best: dict[str, Any], seeds: int) -> dict[str, Any]:
    """Return the figures of a method on a data set; `right` (seeds, rows) is for the pairs."""
    runs = list(runs_of(folder, name, best["params"], seeds).values())
    tables = [read_predictions(run / "adapter.csv", "a run", "run it again") for run in runs]
    right = np.array([(table["label"] == table["predicted"]).to_numpy() for table in tables])
    scored = [(probabilities_of(table), targets_of(table)) for table in tables]
    facts = pd.DataFrame([json.loads((run / "facts.json").read_text()) for run in runs])
    numbers = facts[["trained", "bytes", "seconds_a_step", "memory_mib"]].median()
    low, high = interval(right)
    chosen = {path: value_at(best["params"], path) for path in CONTENDERS[name].space}
    return {
        "data": folder.name,
        "method": name,
        "settings": json.dumps(chosen),
        "trained": int(numbers["trained"]),
        "bytes": int(numbers["bytes"]),
        "seconds_a_step": round(numbers["seconds_a_step"], 3),
        "memory_mib": round(numbers["memory_mib"]),
        "validation_loss": round(best["loss"], 5),
        "accuracy": round(float(right.mean()), 5),
        "low": round(low, 5),
        "high": round(high, 5),
        "log_loss": round(float(np.mean([log_loss(*each) for each in scored])), 5),
        "calibration_error": round(float(np.mean([calibration_error(*s) for s in scored])), 5),
        "kept": int((facts["kept"] == "trained").sum()),
        "seeds": seeds,
        "precision": facts["precision"].iloc[0],
        "right": right,
    }


def interval(right: "np.ndarray[Any, Any]") -> tuple[float, float]:
    """Return the 95 % interval of a mean accuracy, over rows or seeds, whichever is the wider.

    Args:
        right: which rows each seed has right, (seeds, rows).
    """
    of_rows = wilson(right.sum() / len(right), right.shape[1])
    of_seeds = spread(right.mean(axis=1).tolist())
    return max(0.0, min(of_rows[0], of_seeds.low)), min(1.0, max(of_rows[1], of_seeds.high))


def difference(one: "np.ndarray[Any, Any]", other: "np.ndarray[Any, Any]") -> tuple[float, float]:
    """Return the mean difference in accuracy of two methods, and its p-value.

    The variance is the sum of that over the rows, paired by row, and those over the seeds; the
    degrees of freedom are those of Welch 1947, Biometrika 34:28.

    Args:
        one: which rows each seed of the first method has right, (seeds, rows).
        other: likewise of the second.
    """
    rows = one.mean(axis=0) - other.mean(axis=0)
    parts = [
        (rows.var(ddof=1) / len(rows), len(rows) - 1),
        *((r.mean(axis=1).var(ddof=1) / len(r), len(r) - 1) for r in (one, other)),
    ]
    variance = sum(part for part, _ in parts)
    if variance == 0:
        return float(rows.mean()), 1.0
    freedom = variance**2 / sum(part**2 / free for part, free in parts)
    return float(rows.mean()), float(2 * student.sf(abs(rows.mean()) / variance**0.5, freedom))


def with_pairs(lines: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return the lines of one data set with the paired differences to LoRA and to full fine-tuning.

    The p-values of each of the two columns are corrected by Holm 1979, Scand. J. Statist. 6:65.
    """
    lines = [dict(line) for line in lines]
    by_name = {line["method"]: line for line in lines}
    for key, name in (("lora", "LoRA"), ("full", "full fine-tuning")):
        if name not in by_name:
            continue
        others = [line for line in lines if line["method"] != name]
        found = [difference(line["right"], by_name[name]["right"]) for line in others]
        if found:
            corrected = multipletests([p for _, p in found], method="holm")[1]
            for line, (gain, _), p in zip(others, found, corrected, strict=True):
                line |= {f"to_{key}": round(gain, 5), f"p_{key}": float(f"{p:.3g}")}
    return [{key: value for key, value in line.items() if key != "right"} for line in lines]


def prepared(named: str, shipped: Params, base: Path) -> tuple[Path, Params]:
    """Return the folder of a data set, prepared, and its params."""
    name, changes = source_of(named)
    params = with_changes(shipped, changes)
    folder = WORK / name
    if not (folder / paths.HEAD).exists():
        shutil.rmtree(folder, ignore_errors=True)
        (folder / paths.MODELS).mkdir(parents=True)
        (folder / paths.BASE_MODEL).symlink_to(base)
        with contextlib.chdir(folder):
            prepare(params)
            evaluate_base(params)  # its head does not depend on the seed, but for rounding
    return folder, params


def main() -> None:
    """Run what is missing, and write the record."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("sources", nargs="+", metavar="NAME=SOURCE")
    parser.add_argument("--methods", default=",".join(CONTENDERS))
    parser.add_argument("--trials", type=int, default=8)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--workers", type=int, default=1)
    options = parser.parse_args()
    shipped = load_params()
    shipped = with_changes(shipped, ["compute.threads=1"] * (options.workers > 1))
    set_environment(shipped.compute)
    base = paths.BASE_MODEL.resolve()
    names = options.methods.split(",")
    sets = [prepared(named, shipped, base) for named in options.sources]
    tasks = [
        (folder.resolve(), name, params, options.trials, options.seeds)
        for folder, params in sets
        for name in names
    ]
    # Each task is a process of its own, so that its memory is its own and a crash ends it alone.
    lines: dict[str, list[dict[str, Any]]] = {}
    with multiprocessing.get_context("spawn").Pool(options.workers, maxtasksperchild=1) as pool:
        for data, name, best in pool.imap(work, tasks, chunksize=1):
            lines.setdefault(data, []).append(line_of(WORK / data, name, best, options.seeds))
            known = [pd.read_csv(paths.METHODS)] if paths.METHODS.exists() else []
            known = [table[~table["data"].isin(lines)] for table in known]
            paired = [line for each in lines.values() for line in with_pairs(each)]
            table = pd.concat([*known, pd.DataFrame(paired)])
            with replacing(paths.METHODS) as temporary:
                table.to_csv(temporary, index=False, lineterminator="\n")
            print(pd.DataFrame(paired).tail(1).to_string(), flush=True)


if __name__ == "__main__":
    main()
