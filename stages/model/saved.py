"""A trained classifier as a folder: a normal PEFT adapter that is checked before it is trusted."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from peft import PeftModel, get_peft_model_state_dict
from safetensors.torch import save_file

from stages.core.artefacts import require, sha256_of, write_json
from stages.core.errors import ModelError, printable
from stages.model.classifier import Classifier, load_tensors

WEIGHTS = "adapter_model.safetensors"
CONFIG = "adapter_config.json"
MANIFEST = "manifest.json"
UNORDERED = ("target_modules", "exclude_modules", "modules_to_save")
RETRAIN = "train it again: dvc repro -f train_lora"


def base_identity(base: Path) -> dict[str, str]:
    """Return the sha256 of every file of the base model: weights, config and tokenizer."""
    return {file.name: sha256_of(file) for file in sorted(require(base).iterdir())}


def save_adapter(classifier: Classifier, folder: Path, base: Path, max_length: int) -> None:
    """Write a PEFT folder with LoRA and head, and a manifest of what it belongs to.

    The manifest names base, tokenizer, label list and the adapter's own files by sha256. The
    bytes are the same for the same weights: lists that PEFT keeps as sets are sorted. A model
    that was trained in full takes the same file names: all its weights, and a config of no LoRA.
    """
    if isinstance(classifier.model, PeftModel):
        method = "lora"
        _save_lora(classifier, folder, base)
    else:
        method = "full"
        folder.mkdir()
        weights = classifier.model.state_dict()
        save_file(
            {k: v.detach().cpu().contiguous().clone() for k, v in weights.items()}, folder / WEIGHTS
        )
        write_json(folder / CONFIG, {"base_model_name_or_path": base.as_posix(), "peft_type": None})
    manifest = {
        "method": method,
        "base": base_identity(base),
        "head": list(classifier.head),
        "labels": list(classifier.labels),
        "max_length": max_length,
        "files": {name: sha256_of(folder / name) for name in (CONFIG, WEIGHTS)},
    }
    write_json(folder / MANIFEST, manifest)


def _save_lora(classifier: Classifier, folder: Path, base: Path) -> None:
    classifier.model.save_pretrained(folder, save_embedding_layers=False)
    (folder / "README.md").unlink(missing_ok=True)
    config = json.loads((folder / CONFIG).read_text(encoding="utf-8"))
    ordered = {
        key: sorted(set(value)) if isinstance(value, list) and key in UNORDERED else value
        for key, value in config.items()
    }
    ordered["base_model_name_or_path"] = base.as_posix()
    write_json(folder / CONFIG, ordered, decimals=12)


def load_adapter(classifier: Classifier, folder: Path, base: Path) -> Classifier:
    """Return the classifier with the saved weights and head, ready to predict.

    Raises:
        ModelError: if the folder is incomplete or damaged, or belongs to another base, tokenizer
            or label list.
    """
    check_adapter(classifier.labels, folder, base)
    saved = load_tensors(folder / WEIGHTS, RETRAIN)
    try:
        if read_manifest(folder)["method"] == "full":
            classifier.model.load_state_dict(saved)
            return replace(classifier, model=classifier.model.eval())
        model = PeftModel.from_pretrained(classifier.model, folder, local_files_only=True)
    except (OSError, ValueError, KeyError, TypeError, RuntimeError) as error:
        raise ModelError(f"{folder}: cannot be loaded: {printable(error, 200)}", RETRAIN) from error
    expected = get_peft_model_state_dict(model, save_embedding_layers=False)
    missing = sorted(set(expected) ^ set(saved))
    if missing:
        raise ModelError(
            f"{folder}: {len(missing)} tensors do not match the model, for example {missing[0]}",
            RETRAIN,
        )
    return replace(classifier, model=model.eval())


def check_adapter(labels: Sequence[str], folder: Path, base: Path) -> None:
    """Check the manifest against the files, the base model and the label list.

    Raises:
        ModelError: at the first difference, with both sides.
    """
    for name in (MANIFEST, CONFIG, WEIGHTS):
        if not (require(folder) / name).is_file():
            raise ModelError(f"{folder / name}: missing", RETRAIN)
    manifest: dict[str, Any] = read_manifest(folder)
    for name in (CONFIG, WEIGHTS):
        _same(folder / name, manifest["files"].get(name), sha256_of(folder / name), RETRAIN)
    found = base_identity(base)
    for name in sorted({*manifest["base"], *found}):
        fix = f"use the base it was trained on (dvc checkout {base}), or {RETRAIN}"
        _same(base / name, manifest["base"].get(name), found.get(name), fix)
    if manifest["labels"] != list(labels):
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
        manifest = {"method": "lora"} | manifest  # from before there was another method
        types = {"base": dict, "head": list, "labels": list, "max_length": int, "files": dict}
        if all(isinstance(manifest[key], kind) for key, kind in types.items()):
            return dict(manifest)
    except (OSError, ValueError, TypeError, KeyError):
        pass
    raise ModelError(f"{folder / MANIFEST}: not a manifest of this project", RETRAIN)


def _same(path: Path, expected: str | None, found: str | None, fix: str) -> None:
    if expected != found:
        raise ModelError(
            f"{path}: sha256 {str(found)[:12]}, the adapter's manifest says {str(expected)[:12]}",
            fix,
        )
