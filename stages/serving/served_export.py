"""What a server serves from a folder of `bert-lora export`. ONNX alone imports no torch."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from stages.core import paths
from stages.core.errors import ModelError, printable
from stages.core.params import ComputeParams
from stages.running.run import threads_of
from stages.serving.attribution import Explainer, Gradients, Occlusion
from stages.serving.exported import Export, open_scorer, read_export
from stages.serving.served import Served, serve_base

if TYPE_CHECKING:  # ONNX needs no torch
    from stages.model.classifier import Classifier


def serve_export(folder: Path, compute: ComputeParams, with_base: bool) -> Served:
    """Return an export and, if wanted, the base of models/ in the working folder beside it.

    Args:
        folder: what `bert-lora export` wrote, merged or ONNX.
        compute: the threads of the export; device, precision and threads of the base.
        with_base: whether to serve the base.

    Raises:
        HostError: if a folder is missing, or a package that the format needs.
        ModelError: if a file is damaged, or the base has other classes.
    """
    export = read_export(folder)
    threads = threads_of(compute)
    scorer = open_scorer(folder, threads)
    explainer: Explainer = Occlusion(scorer)
    if export.format == "merged":
        explainer = Gradients(lambda: merged_classifier(export), scorer.max_length)
    files = {(folder / name).as_posix(): sha256 for name, sha256 in export.files.items()}
    facts = {"device": "cpu", "precision": export.precision, "threads": str(threads)}
    served = Served(scorer, None, {"model": explainer}, files, facts)
    if not with_base:
        return served
    beside = serve_base(compute)
    if beside.base is None or beside.base.labels != scorer.labels:
        raise ModelError(
            f"{printable(folder, 200)}: classes {printable(scorer.labels)}, "
            "those of models/base are others",
            "leave out --base, or export the adapter of this project: bert-lora export",
        )
    return replace(
        served,
        base=beside.base,
        explainers=served.explainers | beside.explainers,
        files=files | beside.files,
        tolerance=max(served.tolerance, beside.tolerance),
    )


def merged_classifier(export: Export) -> tuple[Classifier, Any]:
    """Return the model of a merged folder for gradients, and where it runs."""
    import torch
    from transformers import AutoModelForSequenceClassification, AutoTokenizer

    from stages.model.classifier import Classifier

    folder = export.folder
    try:
        model = AutoModelForSequenceClassification.from_pretrained(
            folder,
            dtype=torch.float32,
            use_safetensors=True,
            local_files_only=True,
            trust_remote_code=False,
        )
        tokenizer = AutoTokenizer.from_pretrained(
            folder, local_files_only=True, trust_remote_code=False
        )
    except Exception as error:  # a file that another release wrote makes it raise anything
        what = f"{printable(folder, 200)}: cannot be loaded: {printable(error, 200)}"
        raise ModelError(what, "export it again: bert-lora export") from error
    model.eval().requires_grad_(False)
    return Classifier(model, tokenizer, (), tuple(export.labels)), torch.device("cpu")


def is_export(folder: Path) -> bool:
    """Return whether the folder is one of `bert-lora export`, damaged or not."""
    return (folder / paths.EXPORT_RECORD).is_file()
