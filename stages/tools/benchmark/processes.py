"""Run a contender in a process of its own, so that none helps another."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from stages.core import paths
from stages.core.artefacts import write_json
from stages.core.errors import HostError, printable
from stages.tools.benchmark.setting import WARM_UP, Setting, steps_of

ADAPTERHUB = Path(__file__).with_name("adapterhub.py")


def run_contender(
    name: str, steps: int, seed: int, setting: Setting, adapters: Path | None
) -> dict[str, Any]:
    """Return what a contender measured; see `contenders.time_one`.

    Args:
        name: of the contender.
        steps: that are timed; 0 trains for all epochs.
        seed: of training.
        setting: what all contenders share.
        adapters: the Python that has the AdapterHub library, or None.

    Raises:
        HostError: if it fails, with its last line.
    """
    if name == "adapters":
        return run_adapterhub(str(adapters), steps, seed, setting)
    return _run(
        name,
        [
            sys.executable,
            "-m",
            "stages.tools.benchmark.contenders",
            name,
            str(steps),
            str(seed),
        ],
    )


def run_adapterhub(python: str, steps: int, seed: int, setting: Setting) -> dict[str, Any]:
    """Return what the AdapterHub library measured, run by a Python that has it.

    Raises:
        HostError: if it fails, with its last line.
    """
    params = setting.params
    with tempfile.TemporaryDirectory() as folder:
        job = {
            "folder": folder,
            "model": str(paths.BASE_MODEL.absolute()),
            "classes": len(setting.labels),
            "max_length": params.data.max_length,
            "batch_size": params.train.batch_size,
            "epochs": params.train.epochs,
            "learning_rate": params.train.learning_rate,
            "r": params.lora.r,
            "alpha": params.lora.lora_alpha,
            "dropout": params.lora.lora_dropout,
            "warm_up": WARM_UP,
            "max_steps": steps + WARM_UP if steps else -1,
            "warmup_steps": round(params.train.warmup_fraction * steps_of(setting)),
            "seed": seed,
            "bf16": setting.device.bf16,
            "cpu": setting.device.is_cpu,
            "threads": setting.device.threads,
            **{
                name: {"texts": rows.texts, "targets": list(rows.targets)}
                for name, rows in (("train", setting.train), ("validation", setting.validation))
            },
        }
        write_json(Path(folder) / "job.json", job, decimals=None)
        return _run("adapters", [python, str(ADAPTERHUB), f"{folder}/job.json"])


def _run(name: str, command: list[str]) -> dict[str, Any]:
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    except OSError as error:
        raise HostError(
            f"benchmark: {command[0]}: {printable(error.strerror)}", "give the path of a Python"
        ) from None
    if done.returncode:
        last = (done.stderr.strip() or "no message").splitlines()[-1]
        raise HostError(f"benchmark: {name}: {printable(last, 200)}", f"run: {' '.join(command)}")
    measured: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return measured
