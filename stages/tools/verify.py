"""`bert-lora verify`: every byte that dvc.lock names, what they mean, and what stops a next run.

DVC trusts the time stamps of its cache and serves a damaged object as good, so every object is
hashed again here.
"""

import json
import re
from collections.abc import Iterator
from contextlib import suppress
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from dvc.exceptions import DvcException
from dvc.repo import Repo

from stages.core import paths
from stages.core.artefacts import read_object, remake, require
from stages.core.errors import DataError, HostError, UserError, printable
from stages.core.params import Params
from stages.model.load import read_weights
from stages.model.saved import check_adapter
from stages.rows import prepared
from stages.rows.prepared import source_changes
from stages.running.dvc import (
    Recorded,
    cache_folder,
    files_of,
    lock_holders,
    md5_of,
    object_of,
    recorded_outputs,
    require_room,
)
from stages.scoring import predictions
from stages.scoring.scores import headline_scores
from stages.tools.project import git, quiet

Fault = tuple[str, str]  # what is wrong, how to repair it
GIT_KEEPS = ("params.yaml", "dvc.lock", "metrics")  # what `dvc exp run` changes and git restores
# What commands write and only the report shows: a newer one leaves every result as it was.
RECORDS = {str(path) for path in (paths.SEEDS, paths.SEARCH, paths.SEARCH_TABLE, paths.EXPORTS)}
ROUNDING = 2e-6  # of metrics with 6 decimals


def verify(params: Params) -> None:
    """Print what was checked.

    Raises:
        HostError: with all that stops a run, or with every artefact that is missing, damaged or
            out of date.
        ModelError, DataError: with everything that does not belong together.
    """
    # DVC stops at a lock, and what a run has removed is not damaged.
    stopping = [  # guard: held lock -> stopping = []
        (f"{paths.RWLOCK}: held by process {number}", f"wait for it, or stop it: kill {number}")
        for number in lock_holders()
    ]
    if stopping := stopping or list(half_run_faults(recorded_outputs())):
        raise HostError.from_faults(stopping)
    records, cache = recorded_outputs(), cache_folder()
    faults = [
        *stored_faults(records, cache),
        *changed_since(_dvc_status()),
        *version_faults(),
    ]
    size = sum(record.size for record in records)
    try:
        require_room(size, Path(), cache)
    except HostError as error:
        faults += error.faults
    # Sources are compared with outputs, so these must be intact first.
    if faults := faults or list(source_faults(params)):
        raise HostError.from_faults(faults)
    check_meaning()
    print(f"{len(records)} artefacts, {size / 1e6:,.1f} MB: intact in workspace and cache")
    print("weights finite; adapter, base, tokenizer and labels belong together")
    print("predictions, metrics and dvc.lock agree; nothing prevents: dvc repro")


def stored_faults(records: list[Recorded], cache: Path) -> Iterator[Fault]:
    """Yield what is wrong with the bytes of each output, in workspace and cache.

    Objects of other commits and experiments, which dvc.lock does not name, are hashed too.
    """
    named: set[Path] = set()
    for record in records:
        if record.cached:
            yield from _cached_faults(record, cache, named)
        elif md5_of(record.path) != record.md5:  # guard: hash of a metrics file
            yield (
                f"{record.path}: is not what stage {record.owner} wrote",
                f"git checkout {record.path} {paths.LOCK}, or: dvc repro {record.owner}",
            )
    for stored in files_of(cache / "files" / "md5"):
        name = (stored.parent.name + stored.name).removesuffix(".dir")
        if stored not in named and stored.suffix in ("", ".dir") and md5_of(stored) != name:
            yield f"{stored}: an object of another run, damaged", f"remove it: rm -f {stored}"


def _cached_faults(record: Recorded, cache: Path, named: set[Path]) -> Iterator[Fault]:
    files = {record.path: record.md5}
    if record.md5.endswith(".dir"):
        listing = object_of(cache, record.md5)
        named.add(listing)
        if md5_of(listing) != record.md5.removesuffix(".dir"):
            yield _object_fault(listing, record, intact=record.path.is_dir())
            return
        entries = json.loads(listing.read_text(encoding="utf-8"))
        files = {record.path / entry["relpath"]: entry["md5"] for entry in entries}
    for path, md5 in files.items():
        stored, intact = object_of(cache, md5), md5_of(path) == md5
        named.add(stored)
        if md5_of(stored) != md5:  # guard: hash of an object
            yield _object_fault(stored, record, intact)
        elif not intact:
            state = "is not what dvc.lock names" if path.exists() else "missing"
            yield f"{path}: {state}", f"dvc checkout --force {record.owner}"
    for path in sorted(set(files_of(record.path)) - set(files)):
        what = f"{printable(path)}: dvc.lock names no such file"
        yield what, f"remove it: rm {printable(path)}"


def _object_fault(stored: Path, record: Recorded, intact: bool) -> Fault:
    state, clear = ("damaged", f"rm -f {stored} && ") if stored.exists() else ("missing", "")
    if intact:  # the workspace still has it
        heal = f"dvc commit --force {record.owner}"
    elif record.owner.endswith(".dvc"):
        heal = f"dvc pull {record.owner}, or put {record.path} back and: dvc add {record.path}"
    else:
        heal = f"rm -rf {record.path} && (dvc pull {record.path} || dvc repro {record.owner})"
    return f"{record.path}: its object in the cache is {state}: {stored}", f"{clear}{heal}"


def _dvc_status() -> dict[str, Any]:
    try:
        with quiet(), Repo() as repo:
            return dict(repo.status())
    except DvcException as error:
        raise HostError(f"dvc status: {printable(error, 200)}", "see: dvc status -v") from None


def changed_since(status: dict[str, Any]) -> Iterator[Fault]:
    """Yield a fault for each stage whose inputs changed since it ran, given what DVC says.

    A report that lacks a newer record of RECORDS is only noted. Outputs are `stored_faults`'.
    """
    for stage, changes in status.items():
        names = [change for change in changes if isinstance(change, str)]  # "changed command"
        inputs = [c.get("changed deps", {}) for c in changes if isinstance(c, dict)]
        for path, what in (pair for each in inputs for pair in each.items()):
            names += [f"{path} {key}".strip() for key in (what if isinstance(what, dict) else [""])]
        shown = printable(", ".join(names), 200)
        if names and stage == "compare" and RECORDS.issuperset(names):
            print(f"note: the report does not show {shown} yet: dvc repro compare")
        elif names:  # guard: changed inputs
            yield f"stage {stage}: has not run since a change of {shown}", "run: dvc repro"


def source_faults(params: Params) -> Iterator[Fault]:
    """Yield a fault for each local source that changed since a stage read it: DVC does not see it.

    One that is gone is only reported, since the outputs are complete without it.
    """
    for change in source_changes(params):
        what, remedy, command = change.partition(": run ")
        if remedy:
            yield what, f"run {command}"
        else:
            print(f"warning: {change}")


def half_run_faults(records: list[Recorded]) -> Iterator[Fault]:
    """Yield a fault if a run was cut off: params or metrics changed, and outputs or branch gone."""
    gone = [record.path for record in records if not record.path.exists()]
    if len(gone) == len(records):  # nothing has run in this clone
        return
    changed = git("status", "--porcelain", "--untracked-files=no", "--", *GIT_KEEPS).split()[1::2]
    # `dvc exp run` leaves the branch while it works, and stages what it changes.
    staged = git("diff", "--cached", "--name-only", "--", *GIT_KEEPS)
    detached = bool(staged) and not git("branch", "--show-current").strip()
    if changed and (gone or detached):
        sign = f"{gone[0]} is gone" if gone else "HEAD is detached"
        switch = "git switch - && " if detached else ""
        yield (
            f"{', '.join(changed)} changed and {sign}: a run was cut off",
            f"continue it: {switch}dvc repro; or go back to the last commit: "
            f"{switch}git checkout HEAD -- {' '.join(GIT_KEEPS)} && dvc checkout --force",
        )


def version_faults() -> Iterator[Fault]:
    """Yield a fault if packages differ from those that the committed numbers come from."""
    pinned = paths.CONSTRAINTS.read_text(encoding="utf-8") if paths.CONSTRAINTS.exists() else ""
    other = []
    for name, wanted in re.findall(r"(?m)^([\w.-]+)==([^\s;\\]+)", pinned):
        with suppress(PackageNotFoundError):  # of another platform, or of an extra
            installed = version(name)
            if installed.partition("+")[0] != wanted.partition("+")[0]:
                other.append(f"{name} {installed}, not {wanted}")
    if other:
        shown = printable(", ".join(other), 200)
        yield f"{paths.CONSTRAINTS}: {shown}", f"pip install -e . -c {paths.CONSTRAINTS}"


def check_meaning() -> None:
    """Check that weights are finite, and that all artefacts belong together.

    Raises:
        ModelError, DataError: with every fault.
    """
    faults: list[UserError] = []
    for check in (_check_models, _check_scores):
        try:
            check()
        except UserError as error:
            faults.append(error)
    if faults:
        pairs = [pair for error in faults for pair in error.faults]
        raise type(faults[0]).from_faults(pairs)


def _check_models() -> None:
    for folder in (paths.BASE_MODEL, paths.HEAD, paths.ADAPTER):
        for file in sorted(require(folder).glob("*.safetensors")):
            read_weights(file, remake(file))
    check_adapter(prepared.read_labels(), paths.ADAPTER, paths.BASE_MODEL)


def _check_scores() -> None:
    """Check each model's predictions against the test rows, its metrics, and the comparison."""
    labels = prepared.read_labels()
    test = prepared.read_split(paths.TEST, labels)
    truth = dict(zip(test.ids, (labels[target] for target in test.targets), strict=True))
    compared = read_object(paths.COMPARISON, "accuracy_base", "accuracy_adapter")
    for name, metrics, path in (
        ("base", paths.BASE_METRICS, paths.BASE_PREDICTIONS),
        ("adapter", paths.ADAPTER_METRICS, paths.ADAPTER_PREDICTIONS),
    ):
        fix = remake(path)
        frame = predictions.read_predictions(require(path), str(path), fix)
        if dict(zip(frame["id"], frame["label"], strict=True)) != truth:
            raise DataError(f"{path}: its rows or labels are not those of {paths.TEST}", fix)
        if predictions.labels_of(frame) != labels:
            raise DataError(f"{path}: its classes are not those of {paths.LABELS}", fix)
        scores = headline_scores(
            predictions.probabilities_of(frame), predictions.targets_of(frame).tolist()
        )
        recorded = read_object(metrics, *scores)
        for key, value in scores.items():
            if abs(recorded[key] - value) > ROUNDING:  # guard: scores of the predictions
                what = f"{metrics}: {key} {recorded[key]}, the predictions give {value:.6f}"
                raise DataError(what, fix)
        if recorded["accuracy"] != compared[f"accuracy_{name}"]:
            what = f"{paths.COMPARISON}: accuracy_{name} is not that of {metrics}"
            raise DataError(what, remake(paths.COMPARISON))
