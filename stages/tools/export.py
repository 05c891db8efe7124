"""The work of `bert-lora export`: the trained classifier as a folder that other tools take.

The folder is checked against the adapter, in a fresh process, before it is put in place.
"""

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from stages.core import paths
from stages.core.artefacts import Json, read_object, replacing, require, sha256_of, write_json
from stages.core.errors import ModelError, ParamsError, UserError, printable
from stages.core.params import ComputeParams, Params
from stages.model.base import load_base
from stages.model.classifier import Classifier
from stages.model.device import resolve
from stages.model.saved import load_adapter, read_manifest
from stages.model.tokens import encode
from stages.reporting.card import export_card
from stages.reporting.export_records import Check, Record, record_export
from stages.reporting.significance import ALPHA
from stages.rows import prepared
from stages.running.dvc import require_room
from stages.running.provenance import git_state, packages
from stages.running.run import sole_run
from stages.scoring.logits import predict_logits
from stages.sources.catalogue import public_name
from stages.tools.export_check import check_export
from stages.tools.export_merged import merged, standard
from stages.tools.predictor import require_onnx

NEEDED = (paths.BASE_MODEL, paths.ADAPTER, paths.ADAPTER_METRICS, paths.TEST)
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

    format: Literal["merged", "onnx"]
    int8: bool = False
    tolerance: float | None = None

    @property
    def precision(self) -> str:
        """That of the weights."""
        return "int8" if self.int8 else "fp32"


def export(folder: Path, wanted: Wanted, params: Params, force: bool) -> None:
    """Write the folder, record how it compares with the adapter, and print that.

    Args:
        folder: where it goes.
        wanted: format, precision and tolerance.
        params: of the project in the working folder.
        force: whether an export that is there is replaced.

    Raises:
        ParamsError: if something else is there, and see `write_export`.
    """
    for path in NEEDED:
        require(path)
    check_target(folder, force)
    if wanted.format == "onnx":
        require_onnx("onnx", "onnxruntime", "onnxscript")
    with sole_run("export"):
        check_target(folder, force)
        found = write_export(folder, wanted, params)
        record = Record(adapter=read_manifest(paths.ADAPTER)["files"], check=found)
        record_export(f"{wanted.format} {wanted.precision}", record)
    show(found)
    print(f"{paths.EXPORTS} holds this; dvc repro -s -f compare brings it into the report")
    print(f"{printable(folder)}: written")


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


def write_export(folder: Path, wanted: Wanted, params: Params) -> Check:
    """Write the folder, check it in a fresh process, and put it in place; or write nothing.

    What is being done is said on stderr.

    Args:
        folder: where it goes; what is there is replaced.
        wanted: format, precision and tolerance.
        params: of the project in the working folder.

    Returns:
        How it compares with the adapter on the test rows.

    Raises:
        HostError: if a file of the pipeline is missing, or the disk lacks room.
        ModelError: if the model cannot be exported, or the export does not run.
        ParamsError: if a merged folder would give other answers.
        UserError: if a logit differs by more than the tolerance (exit code 1).
    """
    require_room(2 * sum(file.stat().st_size for file in paths.BASE_MODEL.iterdir()), folder)
    temperature = read_object(paths.ADAPTER_METRICS, "temperature")["temperature"]
    labels = prepared.read_labels()
    test = prepared.read_split(paths.TEST, labels)
    manifest = read_manifest(paths.ADAPTER)
    max_length = manifest["max_length"]
    device = resolve(ComputeParams(device="cpu", precision="fp32", threads=params.compute.threads))
    base = load_base(paths.BASE_MODEL, labels, params.seed, device, manifest["pooling"])
    if wanted.format == "merged":
        standard(base.model, base)  # says at once if no class of Transformers will do
    classifier = load_adapter(base, paths.ADAPTER, paths.BASE_MODEL)
    _say(f"scoring {len(test.texts):,} test rows with the adapter")
    adapter = predict_logits(classifier, test.texts, max_length, device, "adapter").numpy()
    with replacing(folder) as temporary:
        _say(f"writing {wanted.format}{', 8-bit weights' if wanted.int8 else ''}")
        record = write_model(temporary, wanted, classifier, max_length, temperature)
        _say("checking it on the same rows in a fresh process")
        found = check_export(temporary, test.texts, test.targets, adapter, device.threads)
        _refuse_beyond(found, wanted)
        record |= {
            "check": found.model_dump(),
            "adapter": manifest["files"],
            "base": manifest["base"],
            "base_source": public_name(params.model.source, "models"),
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
    folder.mkdir()
    tokenizer = classifier.tokenizer
    limit = min(max_length, int(tokenizer.model_max_length))
    _write_tokenizer(folder, tokenizer, limit)
    model = merged(classifier)
    facts: Json = {}
    if wanted.format == "merged":
        model = standard(model, classifier)
        model.save_pretrained(folder)
    else:
        from stages.tools import export_onnx  # here, since its packages are optional

        export_onnx.write_onnx(model, classifier, folder / paths.EXPORT_ONNX)
        model.config.save_pretrained(folder)
        if wanted.int8:
            facts["quantisation"] = export_onnx.quantise(folder / paths.EXPORT_ONNX)
    for file in folder.iterdir():
        file.chmod(READABLE)  # Transformers keeps the weights for their owner alone
    record = {
        "format": wanted.format,
        "precision": wanted.precision,
        "labels": list(classifier.labels),
        "temperature": temperature,
        "max_length": limit,
        "pad_token_id": tokenizer.pad_token_id,
        "empty": encode(tokenizer, [""], limit)[0].tolist(),
        "pooling": classifier.pooling,
        "model": facts | {"class": type(model).__name__},
        "files": {file.name: sha256_of(file) for file in sorted(folder.iterdir())},
    }
    write_json(folder / paths.EXPORT_RECORD, record)
    return record


def _write_tokenizer(folder: Path, tokenizer: Any, limit: int) -> None:
    """Write the tokenizer, which cuts texts where training did.

    Raises:
        ModelError: if it is none that other tools read.
    """
    if getattr(tokenizer, "backend_tokenizer", None) is None:
        raise ModelError(
            f"{type(tokenizer).__name__} has no tokenizer.json, which every other tool reads",
            "use a base model with a fast tokenizer",
        )
    tokenizer.model_max_length = limit
    tokenizer.model_input_names = ["input_ids", "attention_mask"]  # what training gave the model
    tokenizer.backend_tokenizer.enable_truncation(limit, direction=tokenizer.truncation_side)
    tokenizer.save_pretrained(folder)


def _refuse_beyond(found: Check, wanted: Wanted) -> None:
    """Raise a UserError if a logit differs by more than the tolerance; all are numbers by now."""
    limit = wanted.tolerance
    if limit is None:
        limit = float("inf") if wanted.int8 else TOLERANCE
    if found.largest_difference > limit:  # guard: tolerance of an export
        other = "leave out --int8" if wanted.int8 else "try another --format"
        raise UserError(
            "bert-lora export: a logit differs from the adapter's by "
            f"{found.largest_difference:.3g}, more than the tolerance of {limit:g} "
            f"({found.flipped} of {found.rows:,} rows flipped); nothing was written",
            f"{other}, or raise --tolerance if that is close enough for you",
        )


def _say(what: str) -> None:
    print(f"{what} ...", file=sys.stderr, flush=True)


def show(found: Check) -> None:
    """Print the figures of a check, and a warning if the export is worse than the adapter."""
    for name, value in found.model_dump().items():
        print(
            f"{name:<20} {value:>12,}" if isinstance(value, int) else f"{name:<20} {value:>12,.4g}"
        )
    if found.broken > found.fixed and found.mcnemar_p < ALPHA:
        what = f"beyond chance: {found.broken} rows broken, {found.fixed} fixed"
        print(f"warning: less accurate than the adapter, {what}", file=sys.stderr)
