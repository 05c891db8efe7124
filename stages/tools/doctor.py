"""`bert-lora doctor`: find what stops a run, and print the command that repairs it."""

from __future__ import annotations

import json
import platform
import re
import shlex
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import psutil

from stages.core import paths
from stages.core.errors import HostError
from stages.core.params import load_params
from stages.running.disk import SPARE, cache_folder, room
from stages.running.dvc_files import Recorded, recorded_outputs
from stages.running.environment import threads_of
from stages.running.locks import lock_holder
from stages.tools.git import git
from stages.tools.project import enter_project
from stages.tools.verify import Fault, object_of

EXAMPLE = "Example: bert-lora doctor && dvc repro"
TEMPORARY = re.compile(r"\.tmp-(\d+)(\.old)?$")
GIT_KEEPS = ("params.yaml", "dvc.lock", "metrics")  # what `dvc exp run` changes and git restores


def command() -> None:
    """Look for what stops a run: stale locks, leftovers, lack of space, other versions.

    Exit code 5 if something must be repaired first.
    """
    enter_project()
    doctor()


def doctor() -> None:
    """Print the state of the machine and of the project.

    Raises:
        ParamsError: if params.yaml is faulty.
        HostError: with everything that must be repaired before a run.
    """
    for line in surroundings():
        print(line)
    cache = cache_folder()
    records = recorded_outputs() if paths.LOCK.exists() else []
    for change in changes():
        print(f"warning: {change}")
    faults = [
        *lock_faults(),
        *leftover_faults(),
        *half_run_faults(records),
        *space_faults(records, cache),
        *object_faults(records, cache),
        *version_faults(),
    ]
    if faults:
        raise HostError.from_faults(faults)
    print("nothing prevents: dvc repro")


def surroundings() -> Iterator[str]:
    """Yield lines about the machine: Python, processor, threads, precision, GPU, a training."""
    params = load_params()
    from stages.model.device import resolve
    from stages.running.provenance import processor

    device = resolve(params.compute)
    cores = threads_of(params.compute.model_copy(update={"threads": "auto"}))
    yield f"python {platform.python_version()}, {platform.system()} {platform.machine()}"
    yield f"processor: {processor()}, {cores} cores, {device.threads} threads in use"
    units = "has" if device.native_bf16 else "no"
    yield f"device: {device.torch_device.type}, {device.precision} ({units} bf16 units)"
    holder = lock_holder("train_lora")
    if holder:
        yield f"a training is running: process {holder}"
    elif any(paths.CHECKPOINTS.glob("checkpoint-*")):
        yield "a training was stopped: dvc repro continues it"
        yield f"(to start from the beginning: rm -r {paths.CHECKPOINTS})"


def changes() -> Iterator[str]:
    """Yield a line for each local source that changed since a stage read it; no run is stopped."""
    from stages.rows.source_changed import source_changes

    yield from source_changes(load_params())


def lock_faults() -> Iterator[Fault]:
    """Yield what blocks DVC: a damaged lock file, or a process that holds one."""
    if not paths.RWLOCK.exists():
        return
    try:
        content = json.loads(paths.RWLOCK.read_text(encoding="utf-8"))
        holders = {h for entry in content.values() for h in _holders(entry)}
        alive = sorted(number for number in holders if psutil.pid_exists(number))
    except (ValueError, AttributeError, TypeError, KeyError, OSError, OverflowError):
        # guard: damaged lock
        yield (
            f"{paths.RWLOCK}: damaged by a run that was killed, DVC stops at it",
            f"rm {paths.RWLOCK}",
        )
        return
    for number in alive:
        # guard: held lock
        yield f"{paths.RWLOCK}: held by process {number}", f"wait for it, or stop it: kill {number}"


def _holders(entry: dict[str, object]) -> Iterator[int]:
    """Yield the processes of an entry: {"write": {"pid": 1}, "read": [{"pid": 2}]}."""
    for value in entry.values():
        for holder in value if isinstance(value, list) else [value]:
            if isinstance(holder, dict) and "pid" in holder:
                yield int(holder["pid"])


def leftover_faults() -> Iterator[Fault]:
    """Yield what a killed run left half written; the next run of the stage clears it too."""
    for folder in ("data", "metrics", "models"):
        for path in sorted(Path(folder).rglob(".*.tmp-*")):
            name = TEMPORARY.search(path.name)
            if name is None or (len(name[1]) < 10 and psutil.pid_exists(int(name[1]))):
                continue
            kept = path.with_name(path.name[1 : name.start()])
            if name[2] and not kept.exists():  # the kill came between two renames
                yield f"{path}: the only copy of {kept}", f"mv {path} {kept}"
            else:
                yield f"{path}: left by a run that was killed", f"rm -r {path}"


def half_run_faults(records: list[Recorded]) -> Iterator[Fault]:
    """Yield a fault if a run was cut off: params or metrics changed, and outputs or branch gone."""
    gone = [record.path for record in records if not record.path.exists()]
    if len(gone) == len(records):  # nothing has run in this clone
        return
    changed = git("status", "--porcelain", "--untracked-files=no", "--", *GIT_KEEPS).split()[1::2]
    staged = git("diff", "--cached", "--name-only", "--", *GIT_KEEPS)  # DVC stages what it changes
    branch = left_branch() if staged else ""
    if changed and (gone or branch):
        signs = [f"{path} is gone" for path in gone[:1]] + ["HEAD is detached"] * bool(branch)
        switch = f"git switch {shlex.quote(branch)} && " if branch else ""
        yield (
            f"{', '.join(changed)} changed and {' and '.join(signs)}: a run was cut off",
            f"continue it: {switch}dvc repro; or go back to the last commit: "
            f"{switch}git checkout HEAD -- {' '.join(GIT_KEEPS)} && dvc checkout --force",
        )


def left_branch() -> str:
    """Return the branch that `dvc exp run` left and, being killed, did not come back to, or ''."""
    if git("rev-parse", "--abbrev-ref", "HEAD").strip() != "HEAD":
        return ""
    last = git("reflog", "-1", "--format=%gs HEAD").split()
    if last[:2] != ["checkout:", "moving"] or git("rev-parse", "HEAD").strip() not in last:
        return ""
    branch = last[last.index("from") + 1]
    return branch if git("branch", "--list", branch, "--contains", "HEAD").strip() else ""


def space_faults(records: list[Recorded], cache: Path) -> Iterator[Fault]:
    """Yield a fault for workspace or cache if a complete run would not fit."""
    need = sum(record.size for record in records) + SPARE
    for folder in (Path(), cache):
        if (free := room(folder)) < need:
            yield (
                f"{folder.resolve()}: {free / 1e6:,.0f} MB free, a run takes {need / 1e6:,.0f} MB",
                "free some space, or: dvc gc --workspace",
            )


def object_faults(records: list[Recorded], cache: Path) -> Iterator[Fault]:
    """Yield a fault for each output that the workspace has and the cache lacks.

    `bert-lora verify` looks into the objects; this only asks for them.
    """
    for record in records:
        there = object_of(cache, record.md5)
        if record.cached and record.path.exists() and not there.exists():
            yield f"{record.path}: the cache lacks it", f"dvc commit --force {record.owner}"


def version_faults() -> Iterator[Fault]:
    """Yield a fault if packages differ from those that the committed numbers come from."""
    other = []
    for name, wanted in re.findall(r"(?m)^([\w.-]+)==([^\s;\\]+)", _constraints()):
        try:
            installed = version(name)
        except PackageNotFoundError:
            continue  # of another platform, or of an extra
        if installed.partition("+")[0] != wanted.partition("+")[0]:
            other.append(f"{name} {installed}, not {wanted}")
    if other:
        shown = ", ".join(other[:5]) + (f" and {len(other) - 5} more" if len(other) > 5 else "")
        yield f"{paths.CONSTRAINTS}: {shown}", f"pip install -e . -c {paths.CONSTRAINTS}"


def _constraints() -> str:
    return paths.CONSTRAINTS.read_text(encoding="utf-8") if paths.CONSTRAINTS.exists() else ""
