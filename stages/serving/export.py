"""Write the trained classifier as a folder that other tools take, checked before it is in place."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from stages.core import paths
from stages.core.artefacts import Json, read_object, replacing, sha256_of, write_json
from stages.core.errors import ModelError, ParamsError, UserError, printable
from stages.core.params import ComputeParams, Params
from stages.running.dvc import require_room
from stages.running.provenance import git_state, packages
from stages.serving.export_check import Check

if TYPE_CHECKING:  # heavy libraries are imported once the params have been checked
    from stages.model.classifier import Classifier

Format = Literal["merged", "onnx"]
READABLE = 0o644  # the permission of each file
TOLERANCE = 1e-3  # of a logit; float32 in another order differs by a hundredth of it


@dataclass(frozen=True)
class Wanted:
    """What the user asked for.

    Attributes:
        format: merged or onnx.
        int8: whether the weights of an ONNX file become 8-bit integers.
        tolerance: largest difference of a logit from the adapter's; None is TOLERANCE in float32,
            and no limit in 8 bits.
    """

    format: Format
    int8: bool = False
    tolerance: float | None = None

    @property
    def limit(self) -> float | None:
        """The tolerance that holds."""
        return self.tolerance if self.int8 or self.tolerance is not None else TOLERANCE


def write_export(folder: Path, wanted: Wanted, params: Params, say: Callable[[str], None]) -> Check:
    """Write the folder, check it in a fresh process, and put it in place; or write nothing.

    Args:
        folder: where it goes; what is there is replaced.
        wanted: format, precision and tolerance.
        params: of the project in the working folder.
        say: is told what is being done.

    Returns:
        How it compares with the adapter on the test rows.

    Raises:
        HostError: if a file of the pipeline or a package is missing, or the disk lacks room.
        ModelError: if the model cannot be exported, or the export does not run.
        ParamsError: if a merged folder would give other answers.
        UserError: if a logit differs by more than the tolerance (exit code 1).
    """
    from stages.model.base import load_base
    from stages.model.device import resolve
    from stages.model.saved import load_adapter, read_manifest
    from stages.rows import prepared
    from stages.scoring.logits import predict_logits
    from stages.serving.export_card import export_card
    from stages.serving.export_check import check
    from stages.serving.merge import standard

    require_room(2 * sum(file.stat().st_size for file in paths.BASE_MODEL.iterdir()), folder)
    temperature = read_object(paths.ADAPTER_METRICS, "temperature")["temperature"]
    labels = prepared.read_labels()
    test = prepared.read_split(paths.TEST, labels)
    manifest = read_manifest(paths.ADAPTER)
    compute = ComputeParams(device="cpu", precision="fp32", threads=params.compute.threads)
    device = resolve(compute)
    base = load_base(paths.BASE_MODEL, labels, params.seed, device, manifest["pooling"])
    if wanted.format == "merged":
        standard(base.model, base)  # says at once if no class of Transformers will do
    classifier = load_adapter(base, paths.ADAPTER, paths.BASE_MODEL)
    say(f"scoring {len(test.texts):,} test rows with the adapter")
    adapter = predict_logits(classifier, test.texts, manifest["max_length"], device, "adapter")
    with replacing(folder) as temporary:
        say(f"writing {wanted.format}{', 8-bit weights' if wanted.int8 else ''}")
        record = write_model(temporary, wanted, classifier, manifest["max_length"], temperature)
        say("checking it on the same rows in a fresh process")
        found = check(temporary, test.texts, test.targets, adapter.numpy(), device.threads)
        _refuse_beyond(found, wanted)
        record |= {
            "check": found.content(),
            "adapter": manifest["files"],
            "base": manifest["base"],
            "base_source": _public_name(params.model.source),
            "packages": packages(),
            "git": git_state(),
        }
        card = export_card(record, folder.name)
        (temporary / paths.EXPORT_CARD).write_text(card, encoding="utf-8", newline="\n")
        write_json(temporary / paths.EXPORT_RECORD, record)
    return found


def write_model(
    folder: Path, wanted: Wanted, classifier: Classifier, max_length: int, temperature: float
) -> Json:
    """Write a new folder with model, tokenizer and an export.json that lacks the check; return it.

    Args:
        folder: the folder to make.
        wanted: format and precision.
        classifier: the trained one, on the CPU in float32; it is used up.
        max_length: tokens that training kept of each text.
        temperature: that calibrates its probabilities.

    Raises:
        ModelError: if the model or its tokenizer cannot be exported.
        ParamsError: if a merged folder would give other answers.
    """
    from stages.serving.merge import merged, standard
    from stages.serving.onnx_graph import quantise, write_onnx

    folder.mkdir()
    limit = _write_tokenizer(folder, classifier.tokenizer, max_length)
    model = merged(classifier)
    facts: Json = {}
    if wanted.format == "merged":
        model = standard(model, classifier)
        model.save_pretrained(folder)
    else:
        write_onnx(model, classifier, folder / paths.EXPORT_ONNX)
        model.config.save_pretrained(folder)
        if wanted.int8:
            facts["quantisation"] = quantise(folder / paths.EXPORT_ONNX)
    for file in folder.iterdir():
        file.chmod(READABLE)  # Transformers keeps the weights for their owner alone
    record = {
        "format": wanted.format,
        "precision": "int8" if wanted.int8 else "fp32",
        "labels": list(classifier.labels),
        "temperature": temperature,
        "max_length": limit,
        "pad_token_id": classifier.tokenizer.pad_token_id,
        "pooling": classifier.pooling,
        "model": facts | {"class": type(model).__name__},
        "files": {file.name: sha256_of(file) for file in sorted(folder.iterdir())},
    }
    write_json(folder / paths.EXPORT_RECORD, record)
    return record


def check_target(folder: Path, force: bool) -> None:
    """Check that the folder may be written: it is new, or an export and to be replaced.

    Raises:
        ParamsError: if it holds something else, or `force` was not given.
    """
    if not folder.exists() and not folder.is_symlink():
        return
    shown = printable(folder)
    if folder.is_dir() and not any(folder.iterdir()):
        return
    if not (folder / paths.EXPORT_RECORD).is_file():  # guard: what an export replaces
        raise ParamsError(
            f"{shown}: exists and is no export; it is never replaced", "name another folder"
        )
    if not force:
        raise ParamsError(f"{shown}: an export is there already", "add --force to replace it")


def _write_tokenizer(folder: Path, tokenizer: Any, max_length: int) -> int:
    """Write the tokenizer, which cuts texts where training did; return after how many tokens."""
    if getattr(tokenizer, "backend_tokenizer", None) is None:
        raise ModelError(
            f"{type(tokenizer).__name__} has no tokenizer.json, which every other tool reads",
            "use a base model with a fast tokenizer",
        )
    limit = min(max_length, tokenizer.model_max_length)
    tokenizer.model_max_length = limit
    tokenizer.model_input_names = ["input_ids", "attention_mask"]  # what training gave the model
    tokenizer.backend_tokenizer.enable_truncation(limit, direction=tokenizer.truncation_side)
    tokenizer.save_pretrained(folder)
    return int(limit)


def _refuse_beyond(found: Check, wanted: Wanted) -> None:
    """Raise a UserError if a logit differs by more than the tolerance; all are numbers by now."""
    limit = wanted.limit
    if limit is not None and found.largest_difference > limit:  # guard: tolerance of an export
        other = "leave out --int8" if wanted.int8 else "try another --format"
        raise UserError(
            "bert-lora export: a logit differs from the adapter's by "
            f"{found.largest_difference:.3g}, more than the tolerance of {limit:g} "
            f"({found.flipped} of {found.rows:,} rows flipped); nothing was written",
            f"{other}, or raise --tolerance if that is close enough for you",
        )


def _public_name(source: str) -> str:
    """Return what a model source is called outside of this machine."""
    from stages.sources.catalogue import PINNED, entries

    known = source in entries("models") or re.fullmatch(PINNED, source)
    return source if known else "a model folder of its author"
