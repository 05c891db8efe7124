"""The trained classifier as a folder with a manifest, which is checked before it is used.

The manifest names base, tokenizer, label list and the adapter's own files by sha256. This module
is the only one that writes, reads and checks it.
"""

import json
import math
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from stages.core import paths
from stages.core.artefacts import require, sha256_of, write_json
from stages.core.errors import ModelError, printable
from stages.model.classifier import Classifier, probe_batch
from stages.model.device import Device
from stages.model.load import read_weights
from stages.model.methods import METHODS

WEIGHTS = paths.ADAPTER_WEIGHTS.name
CONFIG = paths.ADAPTER_CONFIG.name
MANIFEST = paths.ADAPTER_MANIFEST.name
FIELDS = {
    "method": str,
    "kept": str,
    "precision": str,
    "base": dict,
    "head": list,
    "labels": list,
    "pooling": str,
    "max_length": int,
    "temperature": float,
    "files": dict,
}
RETRAIN = "train it again: dvc repro -f train_lora"


def base_identity(base: Path) -> dict[str, str]:
    """Return the sha256 of every file of the base model: weights, config and tokenizer."""
    return {file.name: sha256_of(file) for file in sorted(require(base).iterdir())}


def save_adapter(
    classifier: Classifier,
    method: str,
    kept: str,
    device: Device,
    folder: Path,
    base: Path,
    max_length: int,
    temperature: float = 1.0,
    made_of: dict[str, str] | None = None,
    on_hub: str | None = None,
) -> None:
    """Write what the method trained, and the manifest, into a new folder.

    Args:
        classifier: after its training.
        method: its name in `methods.METHODS`.
        kept: "trained", or "base" if nothing that was trained is in it.
        device: what it was trained on; its precision is recorded.
        folder: the folder to make.
        base: the folder of the base model that it was trained from.
        max_length: tokens kept of each text.
        temperature: what the logits have been divided by, in the weights.
        made_of: sha256 of what it was trained on and by, by name.
        on_hub: what the Hub calls the base model, where it has it.
    """
    METHODS[method].save(classifier, folder, on_hub or base.as_posix())
    manifest = {
        "method": method,
        "kept": kept,
        "precision": device.precision,
        "base": base_identity(base),
        "head": list(classifier.head),
        "labels": list(classifier.labels),
        "pooling": classifier.pooling,
        "max_length": max_length,
        "temperature": temperature,
        "made_of": made_of or {},
        "files": {name: sha256_of(folder / name) for name in (CONFIG, WEIGHTS)},
    }
    write_json(folder / MANIFEST, manifest)
    write_json(
        folder / paths.ADAPTER_MODEL_CONFIG.name, model_config(classifier, base), decimals=12
    )


def model_config(classifier: Classifier, base: Path) -> dict[str, Any]:
    """Return the base's configuration with what other programs need of the classifier.

    These are class names and their order, size of the head, number type and pooling. It is no
    config.json: beside an adapter that would say that the folder holds a whole model.
    """
    config = json.loads((base / "config.json").read_text(encoding="utf-8"))
    own, labels = classifier.model.config, classifier.labels
    for name in ("auto_map", "torch_dtype", "num_labels", "transformers_version"):
        config.pop(name, None)
    inner = getattr(classifier.model, "get_base_model", lambda: classifier.model)()
    named = {n: getattr(own, n) for n in ("classifier_pooling",) if hasattr(own, n)}
    return {
        **config,
        **named,
        "architectures": [type(inner).__name__],
        "dtype": "float32",
        "id2label": {str(number): label for number, label in enumerate(labels)},
        "label2id": {label: number for number, label in enumerate(labels)},
        "num_labels": len(labels),
        "problem_type": "single_label_classification",
    }


def load_adapter(classifier: Classifier, folder: Path, base: Path) -> Classifier:
    """Return the base classifier with the saved weights in it, ready to predict.

    Raises:
        HostError: if there is no such folder.
        ModelError: if the folder is incomplete or damaged, or belongs to another base, tokenizer
            or label list.
    """
    check_adapter(classifier.labels, folder, base)
    trained_with = read_manifest(folder)["pooling"]
    if trained_with != classifier.pooling:  # guard: pooling of the adapter
        raise ModelError(
            f"{folder}: trained with model.pooling {printable(trained_with)}, "
            f"the base was loaded with {classifier.pooling}",
            RETRAIN,
        )
    saved = read_weights(folder / WEIGHTS, RETRAIN)
    method = METHODS[read_manifest(folder)["method"]]
    try:
        loaded = method.load(classifier, folder, saved)
    except (OSError, ValueError, KeyError, TypeError, RuntimeError) as error:
        what = error.args[0] if isinstance(error, KeyError) and error.args else error
        raise ModelError(f"{folder}: cannot be loaded: {printable(what, 200)}", RETRAIN) from error
    return replace(loaded, model=loaded.model.eval())


def check_loaded(trained: Classifier, loaded: Classifier, texts: list[str], device: Device) -> None:
    """Check that what was loaded gives the logits of what was trained, on the same device.

    Raises:
        ModelError: if they differ by more than a hundredth of the largest: then weights that
            matter were not saved.
    """

    def logits(classifier: Classifier) -> Tensor:
        model = classifier.model.to(device.torch_device).eval()
        batch = {k: v.to(model.device) for k, v in probe_batch(classifier.tokenizer, texts).items()}
        with torch.inference_mode(), device.autocast():
            found: Tensor = model(**batch).logits.float()
        return found

    before, after = logits(trained), logits(loaded)
    if not torch.allclose(before, after, rtol=0, atol=0.01 * float(before.abs().max())):
        raise ModelError(  # guard: the saved adapter is the trained one
            f"{paths.ADAPTER}: loaded again it gives other logits than it was trained to "
            f"(by up to {float((before - after).abs().max()):.2g})",
            "report it with your params.yaml, and set the fields of lora to those of this project",
        )


def check_adapter(labels: Sequence[str], folder: Path, base: Path) -> None:
    """Check the manifest against the files, the base model and the label list.

    Raises:
        HostError: if there is no such folder.
        ModelError: at the first difference, with both sides.
    """
    for name in (MANIFEST, CONFIG, WEIGHTS):
        if not (require(folder) / name).is_file():
            raise ModelError(f"{folder / name}: missing", RETRAIN)
    manifest = read_manifest(folder)
    for name in (CONFIG, WEIGHTS):
        # guard: files of the adapter
        _check_hash(folder / name, manifest["files"].get(name), sha256_of(folder / name), RETRAIN)
    present = base_identity(base)
    for name in sorted({*manifest["base"], *present}):
        fix = f"use the base it was trained on (dvc checkout {base}), or {RETRAIN}"
        # guard: base of the adapter
        _check_hash(base / name, manifest["base"].get(name), present.get(name), fix)
    if manifest["labels"] != list(labels):  # guard: labels of the adapter
        raise ModelError(
            f"{folder}: trained for the labels {printable(manifest['labels'])}, "
            f"the data has {printable(list(labels))}",
            RETRAIN,
        )


def read_manifest(folder: Path) -> dict[str, Any]:
    """Return the adapter's manifest.

    Raises:
        ModelError: if it is not a manifest.
    """
    try:
        manifest = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
        right = all(isinstance(manifest[key], kind) for key, kind in FIELDS.items())
        if right and manifest["method"] in METHODS and 0 < manifest["temperature"] < math.inf:
            return dict(manifest)
    except (OSError, ValueError, TypeError, KeyError):
        pass
    raise ModelError(f"{folder / MANIFEST}: not a manifest of this project", RETRAIN)


def _check_hash(path: Path, expected: str | None, actual: str | None, fix: str) -> None:
    if expected != actual:
        raise ModelError(
            f"{path}: sha256 {str(actual)[:12]}, the adapter's manifest says {str(expected)[:12]}",
            fix,
        )
