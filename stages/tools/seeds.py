"""Run the same settings over several seeds, and report them as one thing.

Each seed is a DVC experiment, run apart from the workspace, so what is done stays done: a second
call goes on where the first one stopped. The split does not hang on the seed, so all of them are
scored on the same test rows.
"""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from stages.core import paths
from stages.core.artefacts import read_json, write_json
from stages.core.errors import DataError, HostError, ParamsError
from stages.core.fingerprints import digest_of_rows, settings_of
from stages.core.params import load_params
from stages.scoring.predictions import aligned
from stages.scoring.significance import Spread, row_interval, spread
from stages.tools.revisions import Run, dvc, experiments_of_head, read_run, state_of

if TYPE_CHECKING:  # heavy libraries are imported once the options are known to be right
    import pandas as pd

FIGURES = ("accuracy_base", "accuracy_adapter", "accuracy_gain")
REMOVE = "remove the experiments of other settings: dvc exp remove"


@dataclass(frozen=True)
class Request:
    """What the user asks for; see `bert-lora seeds --help`."""

    count: int
    overrides: tuple[str, ...] = ()
    first: int = 1


def seeds(request: Request) -> None:
    """Run the seeds that are missing, then print and record what all of them say together.

    Raises:
        ParamsError: if the params are wrong.
        DataError: if metrics/seeds.json is damaged.
        HostError: if a run fails, or the project changes in between.
    """
    load_params()
    read_records()  # found damaged after the runs, it would cost a second call
    numbers = range(request.first, request.first + request.count)
    start = state_of(request.overrides)
    runs: dict[int, Run] = {}
    for place, number in enumerate(numbers, start=1):
        name = f"seeds-{start[1]}-{number}"
        known = name in experiments_of_head()
        found = read_finished(name) if known else None
        state = "running" if found is None else "done before"
        print(f"seed {number} ({place} of {len(numbers)}): {state}", flush=True)
        if found is None:
            if state_of(request.overrides) != start:
                raise HostError(
                    f"seed {number}: the project changed since the first seed",
                    "undo the change to go on, or give the command again for new runs of all",
                )
            run(name, number, request.overrides, replace=known)
            found = read_run(name)
        runs[number] = found
    record = summarise(runs) | {"overrides": list(request.overrides)}
    store(record)
    print(table_of(record))


def read_finished(name: str) -> Run | None:
    """Return what an experiment recorded, None if its results are lost: it has to run again."""
    try:
        return read_run(name)
    except HostError as error:
        print(f"{name}: its results are lost, so it runs again ({error.faults[0][0]})", flush=True)
    return None


def run(name: str, seed: int, overrides: tuple[str, ...], replace: bool) -> None:
    """Run one seed as an experiment, apart from the workspace; its output is the user's to see.

    With `replace` it takes the place of an experiment of its name, but only once it has ended
    well: what a remote that is out of reach may still hold is not given up before.

    Raises:
        HostError: if it fails.
    """
    sets = [part for value in (f"seed={seed}", *overrides) for part in ("-S", value)]
    force = ["--force"] if replace else []
    if dvc("exp", "run", "--temp", "-n", name, *sets, *force):
        raise HostError(
            f"seed {seed}: its run failed, see above",
            "mend it and give the same command again: it goes on with this seed",
        )


def summarise(runs: dict[int, Run]) -> dict[str, Any]:
    """Return the record of the runs, which `runs` holds by seed.

    Raises:
        ParamsError: if a run has another seed than it should, or other settings than the rest.
        DataError: if two of them have other test rows.
    """
    first = next(iter(runs.values()))
    settings = settings_of(first.params)
    for number, one in runs.items():
        if one.params.seed != number or settings_of(one.params) != settings:
            what = f"seed {number}: its experiment has another seed or other settings"
            raise ParamsError(what, REMOVE)

    def in_order(frame: pd.DataFrame, name: str) -> pd.DataFrame:
        return aligned(first.base, frame, ("the first seed", name), REMOVE)[1]

    bases = [in_order(one.base, f"seed {number}") for number, one in runs.items()]
    adapters = [in_order(one.adapter, f"seed {number}") for number, one in runs.items()]
    return record_of(list(runs), bases, adapters) | {
        "settings": settings,
        "method": first.params.train.method,
        "model": first.params.model.source,
    }


def record_of(
    numbers: list[int], bases: list[pd.DataFrame], adapters: list[pd.DataFrame]
) -> dict[str, Any]:
    """Return the figures of several seeds: each, mean, sd, interval of the mean; shares.

    `gain_rows_low` and `_high` are the interval over the test rows of the mean gain over the
    seeds. `limits` says which of the two intervals is the wider.
    """
    import numpy as np

    right = {  # shape (seeds, rows)
        name: np.array([(frame["label"] == frame["predicted"]).to_numpy() for frame in frames])
        for name, frames in (("base", bases), ("adapter", adapters))
    }
    values = {f"accuracy_{name}": [float(r.mean()) for r in rows] for name, rows in right.items()}
    pairs = zip(values["accuracy_adapter"], values["accuracy_base"], strict=True)
    values["accuracy_gain"] = [adapter - base for adapter, base in pairs]
    differences = right["adapter"].mean(axis=0) - right["base"].mean(axis=0)
    low, high = row_interval(differences, seed=0)
    spreads = {name: spread(values[name]) for name in FIGURES}
    over_seeds = spreads["accuracy_gain"].high - spreads["accuracy_gain"].low
    limits = "the seeds" if over_seeds > high - low else "the test set"
    return {
        "test_rows": digest_of_rows(bases[0]),
        "rows": len(bases[0]),
        "seeds": numbers,
        "gain_rows_low": low,
        "gain_rows_high": high,
        "limits": limits if len(numbers) > 1 else None,
        **{key: value for name in FIGURES for key, value in _fields(name, spreads[name]).items()},
    }


def _fields(name: str, found: Spread) -> dict[str, Any]:
    fields = asdict(found)
    values = list(fields.pop("values"))
    ends = {key: value if math.isfinite(value) else None for key, value in fields.items()}
    return {name: values} | {f"{name}_{key}": value for key, value in ends.items()}


def read_records() -> list[dict[str, Any]]:
    """Return the records of metrics/seeds.json, none where there is no such file.

    Raises:
        DataError: if it is no list of records.
    """
    try:
        content = read_json(paths.SEEDS) if paths.SEEDS.exists() else []
    except DataError:
        content = None
    if isinstance(content, list) and all(
        isinstance(one, dict) and {"settings", "test_rows"} <= set(one) for one in content
    ):
        return content
    fix = f"restore it with: git checkout {paths.SEEDS}"
    raise DataError(f"{paths.SEEDS}: no list of records", fix)


def store(record: dict[str, Any]) -> None:
    """Put the record into metrics/seeds.json, in the place of one of the same settings and rows."""
    key = (record["settings"], record["test_rows"])
    kept = [one for one in read_records() if (one["settings"], one["test_rows"]) != key]
    write_json(paths.SEEDS, sorted([*kept, record], key=lambda one: str(one["settings"])))


def table_of(record: dict[str, Any]) -> str:
    """Return the record for a person."""
    lines = [f"{'seed':>10}  {'base':>8}  {'adapter':>8}  {'gain':>6}"]
    columns = [record[name] for name in FIGURES]
    for number, base, adapter, gain in zip(record["seeds"], *columns, strict=True):
        lines.append(
            f"{number:>10}  {100 * base:>6.2f} %  {100 * adapter:>6.2f} %  {100 * gain:>+6.2f}"
        )
    means = [record[f"{name}_mean"] for name in FIGURES]
    lines.append(f"{'mean':>10}  {100 * means[0]:>6.2f} %  {100 * means[1]:>6.2f} %"
                 f"  {100 * means[2]:>+6.2f}")  # fmt: skip
    if record["limits"]:
        lines += _several(record)
    lines.append(f"{paths.SEEDS} holds this; dvc repro compare brings it into the report")
    return "\n".join(lines)


def _several(record: dict[str, Any]) -> list[str]:
    sds = [100 * record[f"{name}_sd"] for name in FIGURES]
    accuracies = record["accuracy_adapter"]
    worst, best = min(accuracies), max(accuracies)
    of = {value: record["seeds"][accuracies.index(value)] for value in (worst, best)}
    low, high = (100 * record[f"accuracy_gain_{end}"] for end in ("low", "high"))
    rows_low, rows_high = (100 * record[f"gain_rows_{end}"] for end in ("low", "high"))
    return [
        f"{'sd':>10}  {sds[0]:>8.2f}  {sds[1]:>8.2f}  {sds[2]:>6.2f}",
        f"worst seed {of[worst]} with {100 * worst:.2f} %, best seed {of[best]} "
        f"with {100 * best:.2f} %",
        f"mean gain {100 * record['accuracy_gain_mean']:+.1f} points: 95 % interval "
        f"{low:.1f} to {high:.1f} over the seeds, {rows_low:.1f} to {rows_high:.1f} over the "
        f"{record['rows']:,} test rows; what limits the conclusion: {record['limits']}",
    ]
