"""Run the same settings over several seeds, and report them as one thing.

Each seed is a DVC experiment, run apart from the workspace, so what is done stays done: a second
call goes on where the first one stopped. The split does not hang on the seed, so all of them are
scored on the same test rows.
"""

from __future__ import annotations

import hashlib
import json
import math
import subprocess
import sys
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from stages.shared import paths
from stages.shared.artefacts import read_json, write_json
from stages.shared.errors import HostError, ParamsError, printable
from stages.shared.identity import digest_of_rows, settings_of
from stages.shared.params import Params, load_params, parse_params
from stages.shared.predictions import aligned
from stages.shared.significance import Spread, row_interval, spread
from stages.tools.revisions import content_of, predictions_of

if TYPE_CHECKING:  # heavy libraries are imported once the options are known to be right
    import pandas as pd

FIGURES = ("accuracy_base", "accuracy_adapter", "accuracy_gain")
# What a run does not hang on: results, and words.
UNREAD = (":!metrics", ":!dvc.lock", ":!README.md", ":!tests", ":!.github", ":!.ci")


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
        HostError: if a run fails.
    """
    load_params()
    numbers = range(request.first, request.first + request.count)
    mark = mark_of(request.overrides)
    names = {number: f"seeds-{mark}-{number}" for number in numbers}
    done = finished()
    for place, (number, name) in enumerate(names.items(), start=1):
        known = name in done
        state = "done before" if known else "running"
        print(f"seed {number} ({place} of {len(names)}): {state}", flush=True)
        if not known:
            run(name, number, request.overrides)
    record = summarise(names, request.overrides)
    store(record)
    print(table_of(record))


def mark_of(overrides: tuple[str, ...]) -> str:
    """Return 8 hex digits that name the overrides and every change since the last commit."""
    changes = _git("diff", "HEAD", "--", ".", *UNREAD)
    return hashlib.sha256(json.dumps([overrides, changes]).encode()).hexdigest()[:8]


def finished() -> set[str]:
    """Return the names of the experiments that the present commit has."""
    commit = _git("rev-parse", "HEAD").strip()
    lines = _git("for-each-ref", "--format=%(refname)", f"refs/exps/{commit[:2]}/{commit[2:]}/")
    return {line.rpartition("/")[2] for line in lines.splitlines()}


def _git(*arguments: str) -> str:
    done = subprocess.run(["git", *arguments], capture_output=True, text=True, errors="replace")  # noqa: S607  # git as the user has it
    if done.returncode:
        raise HostError(
            f"git {arguments[0]}: {printable(done.stderr.strip(), 200)}",
            "work in a git clone of the project",
        )
    return done.stdout


def run(name: str, seed: int, overrides: tuple[str, ...]) -> None:
    """Run one seed as an experiment, apart from the workspace; its output is the user's to see.

    Raises:
        HostError: if it fails.
    """
    sets = [part for value in (f"seed={seed}", *overrides) for part in ("-S", value)]
    command = [sys.executable, "-m", "dvc", "exp", "run", "--temp", "-n", name, *sets]
    if subprocess.run(command).returncode:
        raise HostError(
            f"seed {seed}: its run failed, see above",
            "mend it and give the same command again: it goes on with this seed",
        )


def summarise(names: dict[int, str], overrides: tuple[str, ...]) -> dict[str, Any]:
    """Return the record of the runs that `names` holds by seed.

    Raises:
        DataError: if two of them have other test rows.
    """
    bases: list[pd.DataFrame] = []
    adapters: list[pd.DataFrame] = []
    settings = set[str]()
    params: Params | None = None
    for name in names.values():
        params = parse_params(content_of(name, paths.PARAMS).decode(), paths.PARAMS)
        settings.add(settings_of(params))
        base = predictions_of(name, paths.BASE_PREDICTIONS)
        fix = "remove the experiments of other data: dvc exp remove"
        first = bases[0] if bases else base
        bases.append(aligned(first, base, (next(iter(names.values())), name), fix)[1])
        adapter = predictions_of(name, paths.ADAPTER_PREDICTIONS)
        adapters.append(aligned(first, adapter, (name, f"{name}: adapter"), fix)[1])
    if params is None or len(settings) != 1:
        raise ParamsError(
            "bert-lora seeds: the runs have other settings", "remove them: dvc exp remove"
        )
    return record_of(list(names), bases, adapters) | {
        "settings": settings.pop(),
        "overrides": list(overrides),
        "method": params.train.method,
        "model": params.model.source,
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


def store(record: dict[str, Any]) -> None:
    """Put the record into metrics/seeds.json, in the place of one of the same settings and rows."""
    key = (record["settings"], record["test_rows"])
    old = read_json(paths.SEEDS) if paths.SEEDS.exists() else []
    kept = [one for one in old if (one["settings"], one["test_rows"]) != key]
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
