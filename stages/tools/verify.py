"""`bert-lora verify`: every byte that dvc.lock names, what they mean, and what stops a next run.

DVC trusts the time stamps of its cache and serves a damaged object as good, so every object is
hashed again here.
"""

import json
import logging
import re
from collections.abc import Iterator, Mapping
from contextlib import suppress
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from dvc.exceptions import DvcException
from dvc.repo import Repo

from stages.core import paths
from stages.core.artefacts import (
    files_of,
    outputs,
    read_object,
    refuse_conflicts,
    remake,
    require,
)
from stages.core.errors import DataError, HostError, printable
from stages.core.params import Params
from stages.model.load import read_weights
from stages.model.saved import check_adapter
from stages.reporting.details import comparison_figures
from stages.reporting.significance import paired_gain
from stages.rows import prepared
from stages.running.dvc import (
    Recorded,
    cache_folder,
    dvc_files,
    git,
    has_git,
    lock_holders,
    md5_of,
    object_of,
    recorded_outputs,
    require_room,
)
from stages.scoring import predictions
from stages.scoring.scores import headline_scores
from stages.sources.own import own_faults, source_changes, sources_of

Fault = tuple[str, str]  # what is wrong, how to repair it
ROUNDING = 2e-6  # of metrics with 6 decimals
ASIDE = Path(".dvc/tmp/aside")  # what is in the way is moved there: nothing is thrown away
ENDED = "git stash && git switch - && dvc checkout --force dvc.yaml"


def verify(params: Params) -> None:
    """Print what was checked.

    Raises:
        HostError: with all that stops a run, or with every artefact that is missing, damaged or
            out of date.
        ModelError, DataError: with everything that does not belong together.
    """
    kept = [out for each in outputs().values() for out, cached in each.items() if not cached]
    refuse_conflicts(paths.LOCK, *dvc_files(), *paths.RECORDS, *kept)
    # DVC stops at a lock, and what a run has removed is not damaged.
    stopping = [  # guard: held lock -> stopping = []
        (f"{paths.RWLOCK}: held by process {number}", f"wait for it, or stop it: kill {number}")
        for number in lock_holders()
    ]
    if stopping := stopping or list(half_run_faults()):
        raise HostError.from_faults(stopping)
    logging.getLogger("dvc").setLevel(logging.CRITICAL)  # the error below says it
    try:
        with Repo() as repo:
            status = repo.status()
    except DvcException as error:
        raise HostError(f"dvc status: {printable(error, 200)}", "see: dvc status -v") from None
    records, cache = recorded_outputs(), cache_folder()
    faults = [
        *stored_faults(records, cache),
        *changed_since(status),
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
            what = f"{record.path}: is not what {record.owner} wrote"
            yield what, f"run: {keep(record) or f'dvc repro {record.owner}'}"
    for stored in files_of(cache / "files" / "md5"):
        name = (stored.parent.name + stored.name).removesuffix(".dir")
        if stored not in named and stored.suffix in ("", ".dir") and md5_of(stored) != name:
            yield f"{stored}: an object of another run, damaged", f"run: rm -f {stored}"


def keep(record: Recorded) -> str:
    """Return the command that records the user's own data as they are; empty for an output."""
    return f"dvc add {printable(record.path)}" if record.owner.endswith(".dvc") else ""


def aside(path: Path) -> str:
    """Return the command that moves a file out of the way."""
    return f"mkdir -p {ASIDE} && mv {printable(path)} {ASIDE}/"


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
            back = f"dvc checkout {record.owner}"
            if not path.exists():
                yield f"{path}: missing", f"run: {back}"
                continue
            what = f"{path}: is not what dvc.lock names"
            yield what, f"run: {keep(record) or f'{aside(path)} && {back}'}"
    for path in sorted(set(files_of(record.path)) - set(files)):
        what = f"{printable(path)}: dvc.lock names no such file"
        yield what, f"run: {keep(record) or aside(path)}"


def _object_fault(stored: Path, record: Recorded, intact: bool) -> Fault:
    state, clear = ("damaged", f"rm -f {stored} && ") if stored.exists() else ("missing", "")
    what = f"{record.path}: its object in the cache is {state}: {stored}"
    if intact:  # the workspace still has it
        return what, f"run: {clear}{keep(record) or f'dvc commit --force {record.owner}'}"
    if keep(record):
        heal = f"{clear}dvc pull {record.owner}, or put {record.path} back and: {keep(record)}"
        return what, f"fetch it: {heal}"
    move = f"{aside(record.path)} && " if record.path.exists() else ""
    heal = f"(dvc pull {record.path} || dvc repro {record.owner})"
    return what, f"run: {clear}{move}{heal}"


def changed_since(status: dict[str, Any]) -> Iterator[Fault]:
    """Yield a fault for each stage whose inputs changed since it ran, given what DVC says.

    A report that lacks a newer record of a command is only noted. Outputs are `stored_faults`'.
    """
    for stage, changes in status.items():
        names = [change for change in changes if isinstance(change, str)]  # "changed command"
        inputs = [c.get("changed deps", {}) for c in changes if isinstance(c, dict)]
        for path, what in (pair for each in inputs for pair in each.items()):
            names += [f"{path} {key}".strip() for key in (what if isinstance(what, dict) else [""])]
        shown = printable(", ".join(names), 200)
        if names and stage == "compare" and {str(path) for path in paths.RECORDS}.issuperset(names):
            print(f"note: the report does not show {shown} yet: dvc repro compare")
        elif names:  # guard: changed inputs
            yield f"stage {stage}: has not run since a change of {shown}", "run: dvc repro"


def source_faults(params: Params) -> Iterator[Fault]:
    """Yield a fault for each local source that changed since a stage read it: DVC does not see it.

    One that is gone, or that experiments lack, is only reported: the outputs are complete.
    """
    for change in source_changes(params):
        what, remedy, command = change.partition(": run ")
        if remedy:
            yield what, f"run {command}"
        else:
            print(f"warning: {change}")
    if has_git():
        for what, fix in own_faults(sources_of(params)):
            print(f"warning: {what}. Fix: {fix}")


def half_run_faults() -> Iterator[Fault]:
    """Yield a fault if a `dvc exp run` was cut off: DVC works on a commit and removes its mark.

    A bisect, a tag or a merge that is under way have no such mark.
    """
    if not has_git():
        return
    marks = git("for-each-ref", "--format=%(refname) %(objectname)", "refs/exps/exec").split()
    running = dict(zip(marks[::2], marks[1::2], strict=True))
    base = running.get("refs/exps/exec/EXEC_BASELINE")
    detached = not git("branch", "--show-current").strip()
    if "refs/exps/exec/EXEC_MERGE" in running and detached:
        changed = git("diff", "HEAD", "--name-only", "-z").split("\0")[:-1]
        if changed and git("rev-parse", "HEAD").strip() == base:
            yield (
                f"{printable(', '.join(changed), 200)} changed and HEAD is detached: "
                "an experiment was cut off",
                "continue it: git switch - && dvc repro; or go back to the last commit, what "
                f"changed being kept by git stash: {ENDED}",
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
    """Check that weights are finite and belong together, then predictions and metrics.

    Each model's predictions are those of the test rows and give its metrics and the comparison.
    """
    for folder in (paths.BASE_MODEL, paths.HEAD, paths.ADAPTER):
        for file in sorted(require(folder).glob("*.safetensors")):
            read_weights(file, remake(file))
    labels = prepared.read_labels()
    check_adapter(labels, paths.ADAPTER, paths.BASE_MODEL)
    test = prepared.read_split(paths.TEST, labels)
    truth = dict(zip(test.ids, (labels[target] for target in test.targets), strict=True))
    frames = []
    for metrics, path in (
        (paths.BASE_METRICS, paths.BASE_PREDICTIONS),
        (paths.ADAPTER_METRICS, paths.ADAPTER_PREDICTIONS),
        (paths.TFIDF_METRICS, paths.TFIDF_PREDICTIONS),
    ):
        fix = remake(path)
        frame = predictions.read_predictions(require(path), str(path), fix)
        rows = dict(zip(frame["id"], frame["label"], strict=True))
        if rows != truth or predictions.labels_of(frame) != labels:
            raise DataError(f"{path}: its rows or labels are not those of {paths.TEST}", fix)
        targets = predictions.targets_of(frame).tolist()
        _same_figures(metrics, headline_scores(predictions.probabilities_of(frame), targets), fix)
        frames.append(frame)
    gains = []
    for name, frame in (("base", frames[0]), ("TF-IDF", frames[2])):
        pair = predictions.aligned(frame, frames[1], (name, "adapter"), fix)
        right = [(each["label"] == each["predicted"]).to_numpy() for each in pair]
        gains.append(paired_gain(right[0], right[1]))
    figures = comparison_figures(*gains)
    _same_figures(paths.COMPARISON, figures, remake(paths.COMPARISON))


def _same_figures(path: Path, figures: Mapping[str, float], fix: str) -> None:
    """Check that a file of metrics holds the figures that the predictions give."""
    recorded = read_object(path, *figures)
    for key, value in figures.items():
        if abs(recorded[key] - value) > ROUNDING:  # guard: scores of the predictions
            what = f"{path}: {key} {recorded[key]}, the predictions give {round(value, 6)}"
            raise DataError(what, fix)
