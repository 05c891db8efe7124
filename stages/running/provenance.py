"""How the last run went: its machine, its packages, and how long each stage took.

No two runs agree on it, so it is not a metric, and neither git nor DVC tracks the file. Hashes of
what went in and came out are in dvc.lock and in the adapter's manifest.
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
from stages.core.artefacts import read_json, write_json
from stages.core.errors import UserError, printable
from stages.running.dvc import git_state

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
        entry = {
            "seconds": round(seconds, 2),
            "peak_memory_mb": peak_memory_mb(),
            "finished": datetime.now(UTC).isoformat(timespec="seconds"),
            **facts,
        }
        content = {"git": git_state(), "machine": machine(), "packages": packages()}
        write_json(paths.PROVENANCE, {**content, "stages": {**recorded(), stage: entry}})
    except Exception as error:  # the stage succeeded, whatever becomes of this
        print(f"warning: {paths.PROVENANCE}: not written: {printable(error)}", file=sys.stderr)


def recorded() -> dict[str, Any]:
    """Return what was recorded of each stage, by its name; empty if missing or damaged."""
    content: Any = None
    if paths.PROVENANCE.exists():
        with suppress(UserError):
            content = read_json(paths.PROVENANCE)
    stages = content.get("stages") if isinstance(content, dict) else None
    return stages if isinstance(stages, dict) else {}


def peak_memory_mb() -> float:
    """Return the peak resident memory of this process in MB."""
    with suppress(OSError):  # on Linux ru_maxrss includes the peak of the process that started it
        for line in Path("/proc/self/status").read_text(encoding="utf-8").splitlines():
            if line.startswith("VmHWM:"):
                return round(int(line.split()[1]) * 1024 / 1e6, 1)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return round(peak * (1 if sys.platform == "darwin" else 1024) / 1e6, 1)  # bytes there, else KiB


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
