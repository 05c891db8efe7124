"""`bert-lora seeds`: run the same settings over several seeds, and report them together.

Each seed is a DVC experiment, run apart from the workspace, so a finished one is kept: a second
call continues where the first one stopped. The split does not depend on the seed, so all of them
are scored on the same test rows.
"""

import statistics
import time
from typing import Any

import pandas as pd

from stages.core import paths
from stages.core.errors import HostError, ParamsError, printable
from stages.core.params import Params
from stages.reporting.records import FIGURES, read_records, record_of, settings_of, store
from stages.reporting.results import between, points
from stages.scoring.predictions import aligned
from stages.sources.own import own_faults, sources_of
from stages.tools.compare import Run, read_run
from stages.tools.project import dvc, experiments_of_head, state_of

REMOVE = "remove the experiments of other settings: dvc exp remove"


def seeds(params: Params, count: int, overrides: tuple[str, ...] = (), first: int = 1) -> None:
    """Run the seeds that are missing, then print and record the figures of all of them.

    Args:
        params: of params.yaml.
        count: how many seeds.
        overrides: changes of params, each as KEY=VALUE.
        first: the first seed.

    Raises:
        ParamsError: if an override is none, or changes the seed.
        DataError: if metrics/records/seeds.json is damaged.
        HostError: if a run fails, or the project changes in between.
    """
    for change in overrides:
        key = change.partition("=")[0].rpartition(":")[2].strip("+~ ")  # as Hydra reads it
        if "=" not in change.strip("=") or key in ("", "seed"):
            what = f"bert-lora seeds: -S {printable(change)}"
            raise ParamsError(what, "give KEY=VALUE, any param of params.yaml but seed")
    changes = dict(change.split("=", 1) for change in overrides)
    names = {"data": "data.source", "models": "model.source"}
    own = sources_of(params)
    if faults := own_faults({kind: changes.get(names[kind], own[kind]) for kind in own}):
        raise HostError.from_faults(faults)
    read_records()  # before the runs: a damaged file would cost a second call
    numbers = range(first, first + count)
    start = state_of(overrides)
    runs: dict[int, Run] = {}
    seconds: list[float] = []
    for place, number in enumerate(numbers, start=1):
        name = f"seeds-{start[1]}-{number}"
        known = name in experiments_of_head()
        finished = read_finished(name) if known else None
        state = "running" if finished is None else "done before"
        print(f"seed {number} ({place} of {len(numbers)}): {state}", flush=True)
        if finished is None:
            if state_of(overrides) != start:
                raise HostError(
                    f"seed {number}: the project changed since the first seed",
                    "undo the change to continue, or give the command again for new runs of all",
                )
            started = time.monotonic()
            run(name, number, overrides, replace=known)
            seconds.append(time.monotonic() - started)
            finished = read_run(name)
        runs[number] = finished
    record = summarise(runs) | {"overrides": list(overrides)}
    record["seconds"] = round(statistics.median(seconds), 1) if seconds else None
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
    """Run one seed as an experiment, apart from the workspace; the user sees its output.

    With `replace` it replaces an experiment of its name, but only once it has succeeded: until
    then a remote that is out of reach may still hold the old results.

    Raises:
        HostError: if it fails.
    """
    sets = [part for value in (f"seed={seed}", *overrides) for part in ("-S", value)]
    force = ["--force"] if replace else []
    if dvc("exp", "run", "--temp", "-n", name, *sets, *force):
        raise HostError(
            f"seed {seed}: its run failed, see above",
            "correct it and give the same command again: it continues with this seed",
        )


def summarise(runs: dict[int, Run]) -> dict[str, Any]:
    """Return the record of the runs, which `runs` holds by seed.

    Raises:
        ParamsError: if a run has another seed than it should, or other settings or another
            precision than the rest.
        DataError: if two of them have other test rows.
    """
    first = next(iter(runs.values()))
    settings = settings_of(first.params)
    for number, each in runs.items():
        if each.params.seed != number or settings_of(each.params) != settings:
            what = f"seed {number}: its experiment has another seed or other settings"
            raise ParamsError(what, REMOVE)
        if each.precision != first.precision:
            what = f"seed {number}: trained in {each.precision}, the first in {first.precision}"
            raise ParamsError(what, "set compute.precision, so that all seeds have the same")
        if other := [key for key, sha in first.identity.items() if each.identity.get(key) != sha]:
            what = f"seed {number}: made with other things than the first ({', '.join(other)})"
            raise ParamsError(what, REMOVE)

    def in_order(frame: pd.DataFrame, name: str) -> pd.DataFrame:
        return aligned(first.base, frame, ("the first seed", name), REMOVE)[1]

    bases = [in_order(each.base, f"seed {number}") for number, each in runs.items()]
    adapters = [in_order(each.adapter, f"seed {number}") for number, each in runs.items()]
    return record_of(list(runs), bases, adapters) | {
        "settings": settings,
        "precision": first.precision,
        "made_of": first.identity,
        "method": first.params.train.method,
        "model": first.params.model.source,
    }


def table_of(record: dict[str, Any]) -> str:
    """Return the record for a person."""
    lines = [
        f"trained in {record['precision']}",
        f"{'seed':>10}  {'base':>8}  {'adapter':>8}  {'gain':>6}",
    ]
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
    seeds, rows = (
        between(record[f"{name}_low"], record[f"{name}_high"])
        for name in ("accuracy_gain", "gain_rows")
    )
    return [
        f"{'sd':>10}  {sds[0]:>8.2f}  {sds[1]:>8.2f}  {sds[2]:>6.2f}",
        f"worst seed {of[worst]} with {100 * worst:.2f} %, best seed {of[best]} "
        f"with {100 * best:.2f} %",
        f"mean gain {points(record['accuracy_gain_mean'])} points: 95 % interval "
        f"{seeds} over the seeds, {rows} over the {record['rows']:,} test rows; "
        f"what limits the conclusion: {record['limits']}",
    ]
