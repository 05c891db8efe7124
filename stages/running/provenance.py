"""How the last run went: its inputs, its machine, and how long each stage took.

No two runs agree on it, so it is not a metric, and neither git nor DVC tracks the file. The hash
of dvc.lock is not in it: DVC writes that file after the stage; git names the revision.
"""

import os
import platform
import resource
import sys
from contextlib import suppress
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from stages.core import paths
from stages.core.artefacts import read_json, sha256_of, write_json
from stages.core.errors import UserError, printable
from stages.running.git import git_state

LAST_STAGE = "compare"  # hashing the base's weights takes a moment, so it is done once a run
LIBRARIES = [
    *("torch", "transformers", "peft", "accelerate", "datasets", "evaluate", "safetensors"),
    *("dvc", "numpy", "scipy", "scikit-learn", "statsmodels", "pandas", "pyarrow"),
]


def record(stage: str, seconds: float, facts: dict[str, str]) -> None:
    """Add a finished stage to models/provenance.json; an error here is only a warning.

    Args:
        stage: its name.
        seconds: how long it took.
        facts: what it says of itself, for example the device that it used.
    """
    try:
        known = recorded()
        entry = {
            "seconds": round(seconds, 2),
            "peak_memory_mb": peak_memory_mb(),
            "finished": datetime.now(UTC).isoformat(timespec="seconds"),
            **facts,
        }
        hashes = content_hashes() if stage == LAST_STAGE else known["sha256"]
        write_json(
            paths.PROVENANCE,
            {"git": git_state(), "machine": machine(), "packages": packages(), "sha256": hashes}
            | {"stages": {**known["stages"], stage: entry}},
        )
    except Exception as error:  # the stage succeeded, whatever becomes of this
        print(f"warning: {paths.PROVENANCE}: not written: {printable(error)}", file=sys.stderr)


def recorded() -> dict[str, dict[str, Any]]:
    """Return what earlier stages recorded: `sha256`, `stages`; each empty if missing or damaged."""
    content: Any = None
    if paths.PROVENANCE.exists():
        with suppress(UserError):
            content = read_json(paths.PROVENANCE)
    known = content if isinstance(content, dict) else {}
    parts = {name: known.get(name) for name in ("sha256", "stages")}
    return {name: part if isinstance(part, dict) else {} for name, part in parts.items()}


def peak_memory_mb() -> float:
    """Return the peak resident memory of this process in MB."""
    with suppress(OSError):  # on Linux ru_maxrss includes the peak of the process that started it
        for line in Path("/proc/self/status").read_text(encoding="utf-8").splitlines():
            if line.startswith("VmHWM:"):
                return round(int(line.split()[1]) * 1024 / 1e6, 1)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return round(peak * (1 if sys.platform == "darwin" else 1024) / 1e6, 1)  # bytes there, else KiB


def content_hashes() -> dict[str, str]:
    """Return the sha256 of the data, and of each file of base and adapter."""
    files = [paths.TRAIN, paths.VALIDATION, paths.TEST]
    for folder in (paths.BASE_MODEL, paths.ADAPTER):
        files += sorted(folder.glob("*"))
    return {file.as_posix(): sha256_of(file) for file in files if file.is_file()}


def machine() -> dict[str, Any]:
    """Return processor, cores, operating system and Python; no name of host or user."""
    return {
        "processor": processor(),
        "cores": os.cpu_count(),
        "system": f"{platform.system()} {platform.machine()}",
        "python": platform.python_version(),
    }


def processor() -> str:
    """Return the processor's name."""
    with suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor()


def packages() -> dict[str, str]:
    """Return the version of each library that a result may depend on."""
    versions = {}
    for name in LIBRARIES:
        with suppress(PackageNotFoundError):
            versions[name] = version(name)
    return versions
