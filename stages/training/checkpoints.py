"""Checkpoints that can be trusted: complete, and made from exactly these inputs.

A checkpoint is sealed last, with the sha256 of each of its files; one that a killed run left half
written has no seal. The folder of checkpoints also records the inputs of the training: a training
never continues from a checkpoint of other params, data, weights, code or libraries.
"""

import hashlib
import json
import shutil
from importlib.metadata import version
from pathlib import Path
from typing import Any

from transformers import TrainerCallback

from stages.core import paths
from stages.core.artefacts import code_of, sha256_of, write_json
from stages.core.errors import printable
from stages.core.params import Params
from stages.model.device import Device
from stages.model.saved import base_identity
from stages.running import processes

INPUTS = "inputs.json"
SEAL = "sealed.json"
LIBRARIES = ("torch", "transformers", "peft", "accelerate", "datasets", "tokenizers", "numpy")


def inputs_of(params: Params, device: Device) -> dict[str, Any]:
    """Return all that a training depends on, by name: params, device, files, code, libraries."""
    sections = {name: getattr(params, name).model_dump() for name in ("lora", "peft", "train")}
    files = [paths.TRAIN, paths.VALIDATION, paths.LABELS, *sorted(paths.HEAD.iterdir())]
    code = code_of("train_lora")
    inputs = {
        **{f"{name}.{key}": v for name, keys in sections.items() for key, v in keys.items()},
        "seed": params.seed,
        "data.max_length": params.data.max_length,
        **device.facts(),
        **{str(path): sha256_of(path) for path in files},
        **{f"{paths.BASE_MODEL}/{k}": v for k, v in base_identity(paths.BASE_MODEL).items()},
        **{f"code {name}": sha256_of(path) for name, path in code.items()},
        **{f"version of {name}": version(name) for name in LIBRARIES},
    }
    return dict(json.loads(json.dumps(inputs)))  # as it is read back from the file


def made_of() -> dict[str, str]:
    """Return what is trained on and by, by name: the sha256 of rows, labels and code."""
    code = {name: sha256_of(path) for name, path in code_of("train_lora").items()}
    files = {"training rows": paths.TRAIN, "validation rows": paths.VALIDATION}
    return {
        **{name: sha256_of(path) for name, path in (files | {"labels": paths.LABELS}).items()},
        "code": hashlib.sha256(json.dumps(code, sort_keys=True).encode()).hexdigest(),
    }


def last_usable(inputs: dict[str, Any]) -> Path | None:
    """Return the last complete checkpoint of a training with these inputs; remove all others.

    None means to start from the beginning; paths.CHECKPOINTS then holds only the inputs.
    """
    known = _read(paths.CHECKPOINTS / INPUTS)
    if known is not None and known != inputs:
        name = min(k for k in {*known, *inputs} if known.get(k) != inputs.get(k))
        before, now = (printable(side.get(name), 20) for side in (known, inputs))
        print(
            f"a checkpoint belongs to other inputs ({name}: {before}, now {now}): "
            "starting from the beginning"
        )
    if known != inputs:  # guard: inputs of a checkpoint
        shutil.rmtree(paths.CHECKPOINTS, ignore_errors=True)
        write_json(paths.CHECKPOINTS / INPUTS, inputs, decimals=None)
        return None
    complete = []
    for folder in paths.CHECKPOINTS.glob("checkpoint-*"):
        if is_complete(folder):
            complete.append(folder)
        else:
            print(f"warning: {folder}: incomplete, so it is not used")
            shutil.rmtree(folder)
    usable = [folder for folder in complete if _best_exists(folder)]
    return max(usable, key=lambda folder: int(folder.name.rpartition("-")[2]), default=None)


def is_complete(folder: Path) -> bool:
    """Return whether a checkpoint holds every file that its seal names, unchanged."""
    seal = _read(folder / SEAL)
    return seal is not None and seal == _hashes(folder)  # guard: complete checkpoint -> return True


def _best_exists(folder: Path) -> bool:
    """Return whether the best checkpoint so far, which this one refers to, is there too."""
    state = _read(folder / "trainer_state.json") or {}
    best = state.get("best_model_checkpoint")
    return best is None or is_complete(paths.CHECKPOINTS / Path(best).name)


def _hashes(folder: Path) -> dict[str, str]:
    return {
        path.relative_to(folder).as_posix(): sha256_of(path)
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path.name != SEAL
    }


def _read(path: Path) -> dict[str, Any] | None:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return content if isinstance(content, dict) else None


class Seal(TrainerCallback):
    """Seal each checkpoint once all of it is written."""

    def on_save(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:  # noqa: ARG002  # the Trainer's signature
        """Write the hashes of the checkpoint's files into its folder."""
        processes.wait_for_all()  # each process writes the state of its random numbers
        folder = paths.CHECKPOINTS / f"checkpoint-{state.global_step}"
        if processes.leads():
            write_json(folder / SEAL, _hashes(folder))
