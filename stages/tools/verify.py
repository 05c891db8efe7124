"""`bert-lora verify`: check every byte that dvc.lock names, and that all of it belongs together.

DVC trusts the time stamps of its cache and serves a damaged object as good, so every object is
hashed again here. The bytes are checked first, then their meaning.
"""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

from stages.core import paths
from stages.core.errors import HostError, printable
from stages.core.params import load_params
from stages.running.disk import cache_folder
from stages.running.dvc_files import Recorded, files_of, recorded_outputs
from stages.tools.project import enter_project
from stages.tools.verify_meaning import check_meaning

Fault = tuple[str, str]  # what is wrong, how to repair it
EXAMPLE = "Example: bert-lora verify && git push"


def command() -> None:
    """Hash every artefact again, in workspace and cache, and check that all belong together.

    Exit code 0 only if all of it holds; each fault comes with the command that repairs it.
    """
    enter_project()
    verify()


def verify() -> None:
    """Print what was checked.

    Raises:
        HostError: with every artefact that is missing, damaged or out of date.
        ModelError, DataError: with everything that does not belong together.
    """
    records = recorded_outputs()
    faults = [
        *stored_faults(records, cache_folder()),
        *changed_since(_dvc_status()),
    ]
    # Sources are compared with outputs, so these must be intact first.
    if faults := faults or list(source_faults()):
        raise HostError.from_faults(faults)
    check_meaning()
    size = sum(record.size for record in records)
    print(f"{len(records)} artefacts, {size / 1e6:,.1f} MB: intact in workspace and cache")
    print("weights finite; adapter, base, tokenizer and labels belong together")
    print("predictions, metrics and dvc.lock agree")


def stored_faults(records: list[Recorded], cache: Path) -> Iterator[Fault]:
    """Yield what is wrong with the bytes of each output, in workspace and cache.

    Objects of other commits and experiments, which dvc.lock does not name, are hashed too.
    """
    named: set[Path] = set()
    for record in records:
        if not record.cached:
            if md5_of(record.path) != record.md5:  # guard: hash of a metrics file
                yield (
                    f"{record.path}: is not what stage {record.owner} wrote",
                    f"git checkout {record.path} {paths.LOCK}, or: dvc repro {record.owner}",
                )
        else:
            yield from _cached_faults(record, cache, named)
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
    state = "damaged" if stored.exists() else "missing"
    clear = f"rm -f {stored}" if stored.exists() else ""
    if intact:  # the workspace still has it
        heal = f"dvc commit --force {record.owner}"
    elif record.owner.endswith(".dvc"):
        heal = f"dvc pull {record.owner}, or put {record.path} back and: dvc add {record.path}"
    else:
        heal = f"rm -rf {record.path} && (dvc pull {record.path} || dvc repro {record.owner})"
    return (
        f"{record.path}: its object in the cache is {state}: {stored}",
        f"{clear} && {heal}" if clear else heal,
    )


def object_of(cache: Path, md5: str) -> Path:
    """Return where DVC's cache keeps the object of this hash."""
    return cache / "files" / "md5" / md5[:2] / md5[2:]


def source_faults() -> Iterator[Fault]:
    """Yield a fault for each local source that changed since a stage read it: DVC does not see it.

    One that is gone is only reported, since the outputs are complete without it.

    Raises:
        ParamsError: if params.yaml is faulty.
    """
    from stages.rows.source_changed import source_changes

    for change in source_changes(load_params()):
        what, remedy, command = change.partition(": run ")
        if remedy:
            yield what, f"run {command}"
        else:
            print(f"warning: {change}")


def md5_of(path: Path) -> str | None:
    """Return the hex md5 of a file's bytes, None if there is no such file."""
    if not path.is_file():
        return None
    with path.open("rb") as file:
        return hashlib.file_digest(file, lambda: hashlib.md5(usedforsecurity=False)).hexdigest()


def _dvc_status() -> object:
    command = [sys.executable, "-m", "dvc", "status", "--json"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    try:
        return json.loads(done.stdout)
    except ValueError:
        errors = [line for line in done.stderr.splitlines() if line.startswith("ERROR: ")]
        why = errors[0].removeprefix("ERROR: ") if errors else "no message"
        raise HostError(f"dvc status: {printable(why, 200)}", "run: bert-lora doctor") from None


def changed_since(status: object) -> Iterator[Fault]:
    """Yield a fault for each stage whose inputs changed since it ran.

    `status` is what `dvc status --json` prints; its outputs are left to `stored_faults`.
    """
    for stage, changes in status.items() if isinstance(status, dict) else ():
        names: list[str] = []
        for change in changes:
            if change in ("changed command", "always changed"):
                names.append(change)
            elif isinstance(change, dict):
                for path, what in change.get("changed deps", {}).items():
                    keys = what if isinstance(what, dict) else {"": what}
                    names += [f"{path} {key}".strip() for key in keys]
        if names:  # guard: changed inputs
            shown = printable(", ".join(names), 200)
            yield f"stage {stage}: has not run since a change of {shown}", "run: dvc repro"
