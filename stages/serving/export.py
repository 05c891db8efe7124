"""Write the trained classifier as a folder that other tools take, checked before it is in place."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from stages.core import paths
from stages.core.artefacts import read_object, replacing, sha256_of, write_json
from stages.core.errors import ModelError, UserError, printable
from stages.core.params import ComputeParams, Params
from stages.running.provenance import git_state, packages
from stages.serving.export_check import Check

Format = Literal["merged", "onnx"]
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


def write_export(
    folder: Path, wanted: Wanted, params: Params, say: Callable[[str], None]
) -> Check:
    """Write the folder, check it in a fresh process, and put it in place; or write nothing.

    Args:
        folder: where it goes; what is there is replaced.
        wanted: format, precision and tolerance.
        params: of the project in the working folder.
        say: is told what is being done.

    Returns:
        How it compares with the adapter on the test rows.

    Raises:
        HostError: if a file of the pipeline or a package is missing.
        ModelError: if the model cannot be exported, or the export does not run.
        UserError: if a logit differs by more than the tolerance (exit code 1).
    """
    from stages.rows import prepared
    from stages.serving.export_check import check

    temperature = read_object(paths.ADAPTER_METRICS, "temperature")["temperature"]
    labels = prepared.read_labels()
    test = prepared.read_split(paths.TEST, labels)
    classifier, manifest, threads = _load_adapter(labels, params)
    say(f"scoring {len(test.texts):,} test rows with the adapter")
    adapter = _adapter_logits(classifier, test.texts, manifest["max_length"], threads)
    with replacing(folder) as temporary:
        temporary.mkdir()
        say(f"writing {wanted.format}{', 8-bit weights' if wanted.int8 else ''}")
        facts = _write_model(temporary, wanted, classifier, manifest["max_length"])
        record = {
            "format": wanted.format,
            "precision": "int8" if wanted.int8 else "fp32",
            "labels": labels,
            "temperature": temperature,
            "max_length": facts.pop("max_length"),
            "pad_token_id": classifier.tokenizer.pad_token_id,
            "pooling": manifest["pooling"],
            "model": facts,
            "adapter": manifest["files"],
            "base": manifest["base"],
            "base_source": params.model.source,
            "packages": packages(),
            "git": git_state(),
            "files": {file.name: sha256_of(file) for file in sorted(temporary.iterdir())},
        }
        write_json(temporary / paths.EXPORT_RECORD, record)
        say("checking it on the same rows in a fresh process")
        found = check(temporary, test.texts, test.targets, adapter, threads)
        _refuse_beyond(found, wanted)
        _finish(temporary, folder.name, record, found)
    return found


def check_target(folder: Path, force: bool) -> None:
    """Check that the folder may be written: it is new, or an export and to be replaced.

    Raises:
        UserError: if it holds something else, or `force` was not given (exit code 1).
    """
    if not folder.exists() and not folder.is_symlink():
        return
    shown = printable(folder)
    if folder.is_dir() and not any(folder.iterdir()):
        return
    if not (folder / paths.EXPORT_RECORD).is_file():  # guard: what an export replaces
        raise UserError(
            f"{shown}: exists and is no export; it is never replaced", "name another folder"
        )
    if not force:
        raise UserError(f"{shown}: an export is there already", "add --force to replace it")


def _load_adapter(labels: list[str], params: Params) -> tuple[Any, dict[str, Any], int]:
    """Return the trained classifier on the CPU in float32, its manifest, and the threads to use."""
    import torch

    from stages.model.base import load_base
    from stages.model.device import resolve
    from stages.model.saved import load_adapter, read_manifest

    compute = ComputeParams(device="cpu", precision="fp32", threads=params.compute.threads)
    device = resolve(compute)
    torch.set_num_threads(device.threads)
    manifest = read_manifest(paths.ADAPTER)
    base = load_base(paths.BASE_MODEL, labels, params.seed, device, manifest["pooling"])
    classifier = load_adapter(base, paths.ADAPTER, paths.BASE_MODEL)
    return classifier, manifest, device.threads


def _adapter_logits(classifier: Any, texts: list[str], max_length: int, threads: int) -> Any:
    from stages.model.device import resolve
    from stages.scoring.logits import predict_logits

    device = resolve(ComputeParams(device="cpu", precision="fp32", threads=threads))
    return predict_logits(classifier, texts, max_length, device, "adapter").numpy()


def _write_model(
    folder: Path, wanted: Wanted, classifier: Any, max_length: int
) -> dict[str, Any]:
    """Write model and tokenizer; return max_length as it holds, the class, and the quantisation."""
    from stages.serving.merge import merged, standard
    from stages.serving.onnx_graph import quantise, write_onnx

    limit = _write_tokenizer(folder, classifier.tokenizer, max_length)
    model = merged(classifier)
    facts: dict[str, Any] = {"max_length": limit}
    if wanted.format == "merged":
        model = standard(model, classifier)
        model.save_pretrained(folder)
    else:
        write_onnx(model, classifier, folder / paths.EXPORT_ONNX)
        model.config.save_pretrained(folder)
        if wanted.int8:
            facts["quantisation"] = quantise(folder / paths.EXPORT_ONNX)
    return facts | {"class": type(model).__name__}


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
    """Raise a UserError if a logit differs by more than the tolerance, or is not a number."""
    limit = wanted.limit
    if limit is None or found.largest_difference <= limit:  # guard: tolerance of an export
        return
    raise UserError(
        f"bert-lora export: a logit differs from the adapter's by {found.largest_difference:.3g}, "
        f"more than the tolerance of {limit:g} ({found.flipped} of {found.rows:,} rows flipped); "
        "nothing was written",
        "leave out --int8, or raise --tolerance if that is close enough for you"
        if wanted.int8
        else "try another --format, or raise --tolerance if that is close enough for you",
    )


def _finish(folder: Path, name: str, record: dict[str, Any], found: Check) -> None:
    """Write the model card and the figures of the check into the folder."""
    from stages.serving.export_card import export_card

    content = record | {"check": found.content()}
    (folder / paths.EXPORT_CARD).write_text(export_card(content, name), encoding="utf-8")
    write_json(folder / paths.EXPORT_RECORD, content)

