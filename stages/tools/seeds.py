"""`bert-lora seeds`: run the same settings over several seeds, and report them together.

Each seed is a DVC experiment, run apart from the workspace, so a finished one is kept: a second
call continues where the first one stopped. The split does not depend on the seed, so all of them
are scored on the same test rows.
"""

import hashlib
import json
import statistics
import subprocess
import sys
import time
from typing import Any

import pandas as pd

from stages.core import paths
from stages.core.artefacts import files_of, sha256_of
from stages.core.errors import HostError, ParamsError, printable
from stages.core.params import Params
from stages.reporting.records import FIGURES, read_records, record_of, settings_of, store
from stages.reporting.results import between, points
from stages.running.dvc import git
from stages.scoring.predictions import aligned
from stages.sources.own import own_faults, sources_of
from stages.tools.compare import Run, read_run

# What a run does not depend on: results, documentation, tests and CI.
UNREAD = (":!metrics", ":!dvc.lock", ":!README.md", ":!tests", ":!.github", ":!.ci")
REMOVE = "set compute.precision if that is it, or remove the other experiments: dvc exp remove"


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
        state = "done before" if known else "running"
        print(f"seed {number} ({place} of {len(numbers)}): {state}", flush=True)
        if not known:
            if state_of(overrides) != start:
                raise HostError(
                    f"seed {number}: the project changed since the first seed",
                    "undo the change to continue, or give the command again for new runs of all",
                )
            started = time.monotonic()
            run(name, number, overrides)
            seconds.append(time.monotonic() - started)
        runs[number] = read_run(name)
    record = summarise(runs) | {"overrides": list(overrides)}
    record["seconds"] = round(statistics.median(seconds), 1) if seconds else None
    store(record)
    print(table_of(record))


def state_of(overrides: tuple[str, ...]) -> tuple[str, str]:
    """Return the last commit, and 8 hex digits of the overrides and every change since then.

    The user's own data counts too: git does not see it, but DVC takes it along into an experiment.
    """
    changes = git("diff", "HEAD", "--", ".", *UNREAD)
    data = [(path.as_posix(), sha256_of(path)) for path in files_of(paths.RAW)]
    mark = hashlib.sha256(json.dumps([overrides, changes, data]).encode()).hexdigest()[:8]
    return git("rev-parse", "HEAD").strip(), mark


def experiments_of_head() -> set[str]:
    """Return the names of the experiments that the present commit has."""
    commit = git("rev-parse", "HEAD").strip()
    lines = git("for-each-ref", "--format=%(refname)", f"refs/exps/{commit[:2]}/{commit[2:]}/")
    return {line.rpartition("/")[2] for line in lines.splitlines()}


def run(name: str, seed: int, overrides: tuple[str, ...]) -> None:
    """Run one seed as an experiment, apart from the workspace; the user sees its output."""
    sets = [part for value in (f"seed={seed}", *overrides) for part in ("-S", value)]
    command = [sys.executable, "-m", "dvc", "exp", "run", "--temp", "-n", name, *sets]
    with subprocess.Popen(command) as child:
        try:
            code = child.wait()
        except KeyboardInterrupt:
            # The terminal interrupts DVC too, which ends the stage and clears up after itself.
            child.wait()
            print("interrupted: the same command continues from here", file=sys.stderr)
            raise
    if code:
        raise HostError(
            f"seed {seed}: its run failed, see above",
            "correct it and give the same command again: it continues with this seed",
        )


def made_of(run: Run) -> dict[str, Any]:
    """Return what all seeds have in common: settings, precision, data, base and code."""
    return {"settings": settings_of(run.params), "precision": run.precision, **run.identity}


def summarise(runs: dict[int, Run]) -> dict[str, Any]:
    """Return the record of the runs, which `runs` holds by seed."""
    first = next(iter(runs.values()))
    expected = made_of(first)
    for number, each in runs.items():
        found = made_of(each)
        other = [key for key, value in expected.items() if found.get(key) != value]
        if other := other + ["seed"] * (each.params.seed != number):
            what = f"seed {number}: made otherwise than the first seed ({', '.join(other)})"
            raise ParamsError(what, REMOVE)

    def in_order(frame: pd.DataFrame, name: str) -> pd.DataFrame:
        return aligned(first.base, frame, ("the first seed", name), REMOVE)[1]

    bases = [in_order(each.base, f"seed {number}") for number, each in runs.items()]
    adapters = [in_order(each.adapter, f"seed {number}") for number, each in runs.items()]
    return record_of(list(runs), bases, adapters) | {
        "settings": expected["settings"],
        "precision": first.precision,
        "made_of": first.identity,
        "method": first.params.train.method,
        "model": first.params.model.source,
    }


def table_of(record: dict[str, Any]) -> str:
    """Return the record for a person: accuracies in %, the gain in points."""
    figures = pd.DataFrame({name: record[name] for name in FIGURES}, record["seeds"])
    for row in ("mean", "sd") if record["limits"] else ("mean",):
        figures.loc[row] = [record[f"{name}_{row}"] for name in FIGURES]
    figures.columns = pd.Index(["base %", "adapter %", "gain"])
    lines = [f"trained in {record['precision']}", (100 * figures).to_string(float_format="%.2f")]
    if record["limits"]:
        seeds, rows = (
            between(record[f"{name}_low"], record[f"{name}_high"])
            for name in ("accuracy_gain", "gain_rows")
        )
        lines.append(
            f"mean gain {points(record['accuracy_gain_mean'])} points: 95 % interval {seeds} over "
            f"the seeds, {rows} over the {record['rows']:,} test rows; what limits the "
            f"conclusion: {record['limits']}"
        )
    return "\n".join(
        [*lines, f"{paths.SEEDS} holds this; dvc repro compare brings it into the report"]
    )
