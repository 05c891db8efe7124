"""The work of `bert-lora export`: the trained classifier as a folder that other tools take.

The folder is checked against the adapter, in a fresh process, before it is put in place.
"""

import copy
import io
import logging
import platform
import sys
import warnings
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager, redirect_stdout
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path
from typing import Any, Literal

import numpy as np
import onnx_ir
import torch
from onnxruntime.quantization import QuantType, quantize_dynamic
from peft import PeftModel
from peft.utils import ModulesToSaveWrapper
from torch import Tensor, nn
from transformers import AutoConfig, AutoModelForSequenceClassification
from transformers.exporters.configs import OnnxConfig
from transformers.exporters.exporter_onnx import OnnxExporter

from stages.core import paths
from stages.core.artefacts import Json, replacing, require, sha256_of, write_json
from stages.core.errors import ModelError, ParamsError, UserError, printable
from stages.core.params import ComputeParams, Params
from stages.model.classifier import Classifier
from stages.model.device import resolve
from stages.model.load import load_base
from stages.model.lora import ADAPTER
from stages.model.saved import load_adapter, read_manifest
from stages.model.tokens import encode
from stages.reporting.page import export_card
from stages.reporting.records import Check, Record, record_export
from stages.reporting.significance import ALPHA, paired_gain
from stages.rows import prepared
from stages.running.dvc import git_state, require_room
from stages.running.provenance import packages
from stages.running.run import sole_run
from stages.scoring.logits import predict_logits
from stages.sources.catalogue import public_name
from stages.tools.predictor import Logits, require_onnx, score_and_time

NEEDED = (paths.BASE_MODEL, paths.ADAPTER, paths.TEST)
READABLE = 0o644  # the permission of each file
TOLERANCE = 1e-3  # of a logit; float32 in another order differs by a hundredth of it
# Rows of several lengths, so that batch, length and padding are all seen; 0 and 1 would be taken
# for constants.
PROBES = ("a", "a quiet, lovely film", "two hours that nobody will give me back, and no laugh")
UNUSED_IMAGES = {
    "model_type": "siglip_vision_model",
    "vision_use_head": False,
    **dict.fromkeys(("hidden_size", "intermediate_size", "num_hidden_layers"), 1),
    **dict.fromkeys(("num_attention_heads", "image_size", "patch_size", "num_channels"), 1),
}


def merged(classifier: Classifier) -> Any:
    """Return the model with the adapter merged into its weights; `classifier` is used up.

    The pooling hook stays: see `standard`. A trained head takes the place of PEFT's wrapper first:
    merging some methods breaks on a head of several layers otherwise.
    """
    model = classifier.model
    if not isinstance(model, PeftModel):
        return model.eval()
    inner: Any = model.get_base_model()
    for name, module in list(inner.named_modules()):
        if isinstance(module, ModulesToSaveWrapper):
            inner.set_submodule(name, module.modules_to_save[ADAPTER])
    try:
        plain: Any = model.merge_and_unload(safe_merge=True)
    except (AttributeError, NotImplementedError, TypeError, ValueError) as error:
        what = f"the adapter cannot be merged into the weights: {printable(error, 200)}"
        raise ModelError(what, "train with another train.method: lora, full or head") from error
    return plain.eval()


def standard(model: Any, classifier: Classifier) -> Any:
    """Return a model of Transformers' own classes with the same logits, ready to be saved.

    It is the model's class where that reads what this head reads, and otherwise the class for any
    encoder with one linear layer on top. Which one is decided by their logits.

    Args:
        model: as `merged` returns it.
        classifier: what it was made from: its tokenizer, head and pooling.
    """
    wanted = _logits(model, classifier)
    for build in (_same_class, _any_encoder):
        candidate = build(model, classifier)
        if candidate is not None and torch.allclose(
            _logits(candidate, classifier), wanted, rtol=TOLERANCE, atol=TOLERANCE
        ):
            return candidate
    name = type(model).__name__
    raise ParamsError(
        f"bert-lora export: no class of Transformers has {name}'s head and model.pooling "
        f"{classifier.pooling}, so a merged folder would give other answers",
        "use --format onnx, whose graph has the pooling in it, or train with -S model.pooling=auto",
    )


def _same_class(model: Any, _: Classifier) -> Any:
    """Return a fresh model of the same class with the same weights, None if it needs others."""
    fresh = type(model)(copy.deepcopy(model.config))
    try:
        fresh.load_state_dict(model.state_dict())
    except RuntimeError:  # a pooler that the pooling did without
        return None
    return fresh.eval()


def _any_encoder(model: Any, classifier: Classifier) -> Any:
    """Return the encoder under pooling and one linear layer, None if the head is anything else."""
    head = model.get_submodule(classifier.head[0])
    if len(classifier.head) > 1 or not isinstance(head, nn.Linear):
        return None
    encoder = getattr(model, model.base_model_prefix)
    text: dict[str, Any] = encoder.config.to_dict() | {"rms_norm_eps": 1e-6}  # of unused images
    config = AutoConfig.for_model(
        "ultravbert",
        text_config=text,
        vision_config=UNUSED_IMAGES,
        pixel_shuffle_factor=1,
        image_token_id=-1,  # no text has it
        classifier_pooling={"first": "cls"}.get(classifier.pooling, classifier.pooling),
        id2label=model.config.id2label,
        label2id=model.config.label2id,
        problem_type=model.config.problem_type,
    )
    whole = AutoModelForSequenceClassification.from_config(  # type: ignore[no-untyped-call]  # there
        config, attn_implementation=model.config._attn_implementation
    )
    with torch.no_grad():
        for parameter in whole.parameters():
            parameter.zero_()  # what no text reads is the same in every export
        whole.model.text_model.load_state_dict(encoder.state_dict(), strict=False)
        whole.classifier.load_state_dict(head.state_dict())
    return whole.eval()


def _probes(classifier: Classifier) -> dict[str, Any]:
    """Return PROBES as one padded batch, input_ids and attention_mask (rows, tokens)."""
    batch = classifier.tokenizer(list(PROBES), padding=True, return_tensors="pt")
    return {name: batch[name] for name in ("input_ids", "attention_mask")}


def _logits(model: Any, classifier: Classifier) -> Tensor:
    """Return the logits of texts of several lengths in one batch, nan where the model fails."""
    try:
        with torch.no_grad():
            logits: Tensor = model(**_probes(classifier)).logits
    except (AttributeError, TypeError, ValueError, RuntimeError):  # no pooler for the head to read
        return torch.full((len(PROBES), len(classifier.labels)), torch.nan)
    return logits


def write_onnx(model: Any, classifier: Classifier, path: Path) -> None:
    """Write the model as one ONNX file: input_ids and attention_mask (rows, tokens) to logits.

    Rows and tokens are free.

    Args:
        model: as `merged` returns it, on the CPU in float32.
        classifier: what it was made from: its tokenizer.
        path: the file to write.
    """
    inputs = _probes(classifier)
    free = {0: torch.export.Dim.DYNAMIC, 1: torch.export.Dim.DYNAMIC}
    config = OnnxConfig(dynamic_shapes=dict.fromkeys(inputs, free))
    name = type(model).__name__
    model.requires_grad_(False)
    try:
        with _quiet():
            exporter = OnnxExporter()  # type: ignore[no-untyped-call]  # Transformers leaves it so
            program: Any = exporter.export(model, inputs, config=config).program
            onnx_ir.save(program, path)
    except Exception as error:  # the exporter meets anything that a model may do
        what = f"{name} cannot be translated to ONNX: {printable(error, 200)}"
        raise ModelError(what, "use --format merged") from error


@contextmanager
def _quiet() -> Iterator[None]:
    """Let errors alone be reported: the libraries speak of releases and of packages not needed."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with redirect_stdout(io.StringIO()), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)


def quantise(path: Path) -> dict[str, Any]:
    """Replace an ONNX file by the same with 8-bit weights; activations are rounded as they come.

    ONNX Runtime's dynamic quantisation, with a scale for each output channel. Where the processor
    lacks VNNI its 8-bit products saturate, so weights then keep 7 bits (ONNX Runtime's
    `reduce_range`).

    Returns:
        How it was quantised, for the record.
    """
    # Arm's dot product sums in 32 bits.
    arm = platform.machine().lower() in ("arm64", "aarch64")
    how = {"per_channel": True, "reduce_range": not (arm or torch.cpu._is_vnni_supported())}
    small = path.with_name(f"{path.name}.int8")
    with _quiet():  # it recommends a step that these graphs do not need
        quantize_dynamic(path, small, weight_type=QuantType.QInt8, **how)
    small.replace(path)
    return how


@dataclass(frozen=True)
class Wanted:
    """What the user asked for."""

    format: Literal["merged", "onnx"]
    int8: bool = False  # whether the weights of an ONNX file become 8-bit integers
    # Largest difference of a logit; None is TOLERANCE in float32, and no limit in 8 bits.
    tolerance: float | None = None

    @property
    def precision(self) -> str:
        """That of the weights."""
        return "int8" if self.int8 else "fp32"


def export(folder: Path, wanted: Wanted, params: Params, force: bool) -> None:
    """Write the folder, record how it compares with the adapter on the test rows, and print that.

    A fresh process checks it before it is put in place. What is being done is said on stderr.

    Args:
        folder: where it goes.
        wanted: format, precision and tolerance.
        params: of the project in the working folder.
        force: whether an export that is there is replaced.

    Raises:
        HostError: if a file of the pipeline is missing, or the disk lacks room.
        ModelError: if the model cannot be exported, or the export does not run.
        ParamsError: if something else is there, or a merged folder would give other answers.
        UserError: if a logit differs by more than the tolerance (exit code 1).
    """
    for path in NEEDED:
        require(path)
    if wanted.format == "onnx":
        require_onnx("onnx", "onnxruntime", "onnxscript")
    with sole_run("export"):
        check_target(folder, force)
        found = _write(folder, wanted, params)
    print(found.model_dump_json(indent=2))
    if found.broken > found.fixed and found.mcnemar_p < ALPHA:
        what = f"beyond chance: {found.broken} rows broken, {found.fixed} fixed"
        print(f"warning: less accurate than the adapter, {what}", file=sys.stderr)
    print(f"{paths.EXPORTS} holds this; dvc repro -s -f compare brings it into the report")
    print(f"{printable(folder)}: written")


def check_target(folder: Path, force: bool) -> None:
    """Check that the folder may be written: it is new, or an export and to be replaced."""
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


def _write(folder: Path, wanted: Wanted, params: Params) -> Check:
    require_room(2 * sum(file.stat().st_size for file in paths.BASE_MODEL.iterdir()), folder)
    labels = prepared.read_labels()
    test = prepared.read_split(paths.TEST, labels)
    manifest = read_manifest(paths.ADAPTER)
    max_length = manifest["max_length"]
    device = resolve(ComputeParams(device="cpu", precision="fp32", threads=params.compute.threads))
    base = load_base(paths.BASE_MODEL, labels, params.seed, device, manifest["pooling"])
    if wanted.format == "merged":
        standard(base.model, base)  # says at once if no class of Transformers will do
    classifier = load_adapter(base, paths.ADAPTER, paths.BASE_MODEL)
    print(f"scoring {len(test.texts):,} test rows with the adapter ...", file=sys.stderr)
    adapter = predict_logits(classifier, test.texts, max_length, device, "adapter").numpy()
    with replacing(folder) as temporary:
        print(f"writing {wanted.format} {wanted.precision} ...", file=sys.stderr)
        record = write_model(temporary, wanted, classifier, max_length, manifest["temperature"])
        print("checking it on the same rows in a fresh process ...", file=sys.stderr)
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
    name = f"{wanted.format} {wanted.precision}"
    record_export(name, Record(adapter=manifest["files"], check=found))
    return found


def write_model(
    folder: Path, wanted: Wanted, classifier: Classifier, max_length: int, temperature: float
) -> Json:
    """Write a new folder with model, tokenizer and an export.json whose check is empty; return it.

    Args:
        folder: the folder to make.
        wanted: format and precision.
        classifier: the trained one, on the CPU in float32; it is used up.
        max_length: tokens that training kept of each text.
        temperature: what its weights have divided the logits by.
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
        write_onnx(model, classifier, folder / paths.EXPORT_ONNX)
        model.config.save_pretrained(folder)
        if wanted.int8:
            facts["quantisation"] = quantise(folder / paths.EXPORT_ONNX)
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
        "check": {},
    }
    write_json(folder / paths.EXPORT_RECORD, record)
    return record


def _write_tokenizer(folder: Path, tokenizer: Any, limit: int) -> None:
    """Write the tokenizer, which cuts texts where training did."""
    if getattr(tokenizer, "backend_tokenizer", None) is None:
        raise ModelError(
            f"{type(tokenizer).__name__} has no tokenizer.json, which every other tool reads",
            "use a base model with a fast tokenizer",
        )
    tokenizer.model_max_length = limit
    tokenizer.model_input_names = ["input_ids", "attention_mask"]  # what training gave the model
    tokenizer.backend_tokenizer.enable_truncation(limit, direction=tokenizer.truncation_side)
    tokenizer.save_pretrained(folder)


def check_export(
    folder: Path, texts: list[str], targets: list[int], adapter: Logits, threads: int
) -> Check:
    """Return how an exported folder, opened in a fresh process, compares with the adapter.

    Args:
        folder: the exported folder.
        texts: of the test rows.
        targets: their true label numbers.
        adapter: the adapter's logits, shape (texts, classes).
        threads: processor threads to use.
    """
    result = _in_fresh_process(folder, texts, threads)
    ours, alone = result["logits"], result["alone"]
    differences = (np.abs(ours - adapter).max(), np.abs(alone - adapter[: len(alone)]).max())
    truth = np.array(targets)
    gain = paired_gain(adapter.argmax(1) == truth, ours.argmax(1) == truth)
    return Check(
        rows=len(texts),
        largest_difference=float(max(differences)),
        flipped=int((ours.argmax(1) != adapter.argmax(1)).sum()),
        fixed=gain.fixed,
        broken=gain.broken,
        accuracy=gain.second,
        adapter_accuracy=gain.first,
        mcnemar_p=gain.p,
        rows_per_second=result["rows_per_second"],
        single_ms=result["single_ms"],
        threads=threads,
        bytes=sum(file.stat().st_size for file in folder.iterdir()),
    )


def _in_fresh_process(folder: Path, texts: list[str], threads: int) -> dict[str, Any]:
    """Score the texts where nothing but the folder is known: this process knows too much."""
    with ProcessPoolExecutor(1, get_context("spawn")) as pool:
        try:
            return pool.submit(score_and_time, folder.absolute(), texts, threads).result()
        except Exception as error:  # whatever stopped that process
            what = f"the export does not run in a fresh process: {printable(error.args[0], 300)}"
            raise ModelError(what, "use another --format; nothing was written") from error


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
