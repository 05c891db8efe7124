"""Open an exported folder as a scorer. An ONNX file needs tokenizers, onnxruntime and numpy alone.

What a folder holds is in its export.json, which `bert-lora export` wrote: see `export`.
"""

from __future__ import annotations

import json
from abc import ABC, abstractmethod
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from stages.core import paths
from stages.core.artefacts import sha256_of
from stages.core.errors import HostError, ModelError, printable
from stages.serving.batched import FolderTokenizer, in_batches
from stages.serving.scorer import Logits, Scorer

REDO = "export it again: bert-lora export"
FIELDS: dict[str, Any] = {
    "format": str,
    "precision": str,
    "labels": list,
    "temperature": (int, float),
    "max_length": int,
    "pad_token_id": int,
    "files": dict,
}


@dataclass(frozen=True)
class Export:
    """What export.json says of a folder.

    Attributes:
        folder: where it is.
        format: merged, a Transformers folder; or onnx, a graph for ONNX Runtime.
        precision: of its weights, fp32 or int8.
        labels: class names in the order of the logits.
        temperature: what logits are divided by before the softmax.
        max_length: tokens that are read of a text.
        pad_token_id: token that fills the shorter rows of a batch.
        files: sha256 of each other file by its name.
    """

    folder: Path
    format: str
    precision: str
    labels: list[str]
    temperature: float
    max_length: int
    pad_token_id: int
    files: dict[str, str]

    @property
    def weights(self) -> Path:
        """The file with the weights."""
        name = paths.EXPORT_ONNX if self.format == "onnx" else paths.EXPORT_WEIGHTS
        return self.folder / name

    @property
    def description(self) -> str:
        """Format and precision in words."""
        return f"{self.format} {self.precision}"


def read_export(folder: Path, finished: bool = True) -> Export:
    """Return what export.json says, with every file checked by its sha256.

    Args:
        folder: the exported folder.
        finished: whether it must have been checked against the adapter, as the last step of an
            export is.

    Raises:
        HostError: if there is no such folder.
        ModelError: if it is no exported folder, or a file is missing or damaged.
    """
    if not folder.is_dir():
        what = f"{printable(folder)}: no such folder"
        raise HostError(what, f"make it: bert-lora export {printable(folder)}")
    record = folder / paths.EXPORT_RECORD
    try:
        content = json.loads(record.read_text(encoding="utf-8"))
        known = {name: content[name] for name in FIELDS}
        right = all(isinstance(known[name], kind) for name, kind in FIELDS.items())
        right = right and not (finished and "check" not in content)
    except (FileNotFoundError, ValueError, TypeError, KeyError, RecursionError):
        right = False
    if not right or known["format"] not in ("merged", "onnx"):
        state = "is damaged" if record.exists() else "not found: not a folder of bert-lora export"
        raise ModelError(f"{printable(record)}: {state}", f"{REDO} {printable(folder)}")
    for name, sha in known["files"].items():
        path = folder / name
        if not path.is_file() or sha256_of(path) != sha:  # guard: files of an export
            state = "damaged" if path.is_file() else "missing"
            raise ModelError(f"{printable(path)}: {state}", f"{REDO} {printable(folder)} --force")
    return Export(folder=folder, **known)


def open_scorer(folder: Path, threads: int | None = None, finished: bool = True) -> Scorer:
    """Return the scorer of a folder that `bert-lora export` wrote, merged or ONNX.

    Args:
        folder: the exported folder.
        threads: processor threads; None leaves the number to the library.
        finished: whether the export must have been checked.

    Raises:
        HostError: if there is no such folder, or ONNX Runtime is not installed.
        ModelError: if the folder is damaged or no export.
    """
    export = read_export(folder, finished)
    return OnnxScorer(export, threads) if export.format == "onnx" else MergedScorer(export, threads)


class _FolderScorer(ABC):
    """What the scorers of the two formats share; see `scorer.Scorer`."""

    def __init__(self, export: Export) -> None:
        self.description = export.description
        self.labels = export.labels
        self.max_length = export.max_length
        self.temperature = export.temperature
        self.sha256 = export.files[export.weights.name]
        self._tokenizer = FolderTokenizer(
            export.folder / paths.EXPORT_TOKENIZER, export.max_length, export.pad_token_id
        )

    def score(self, texts: Any) -> Logits:
        """Return the logits, shape (texts, classes).

        Raises:
            NumericsError: if one of them is not finite.
        """
        return in_batches(self._tokenizer, list(texts), self._logits, len(self.labels))

    def lengths(self, texts: Any) -> list[int]:
        """Return how many tokens each text has before it is cut off."""
        return self._tokenizer.lengths(list(texts))

    @abstractmethod
    def _logits(self, batch: dict[str, Any]) -> Logits:
        """Return the logits of one padded batch, shape (rows, classes)."""


class OnnxScorer(_FolderScorer):
    """A graph on ONNX Runtime; neither torch nor Transformers is imported."""

    def __init__(self, export: Export, threads: int | None) -> None:
        try:
            import onnxruntime
        except ModuleNotFoundError:
            raise HostError(
                "onnxruntime is not installed: it runs an ONNX export",
                "run: pip install -e '.[export]' -c .github/constraints.txt",
            ) from None
        super().__init__(export)
        options = onnxruntime.SessionOptions()
        options.log_severity_level = 3  # errors
        options.intra_op_num_threads = threads or 0
        try:
            self._session = onnxruntime.InferenceSession(
                export.weights, options, providers=["CPUExecutionProvider"]
            )
        except Exception as error:  # ONNX Runtime's own classes, of which each release has others
            what = f"{printable(export.weights)}: cannot be loaded: {printable(error, 200)}"
            raise ModelError(what, f"{REDO} {printable(export.folder)} --force") from error

    def _logits(self, batch: dict[str, Any]) -> Logits:
        logits: Logits = self._session.run(["logits"], batch)[0]
        return logits


class MergedScorer(_FolderScorer):
    """A Transformers folder, loaded by Transformers' own classes."""

    def __init__(self, export: Export, threads: int | None) -> None:
        import torch
        from transformers import AutoModelForSequenceClassification
        from transformers.utils.logging import disable_progress_bar

        super().__init__(export)
        if threads:
            torch.set_num_threads(threads)
        disable_progress_bar()  # type: ignore[no-untyped-call]  # Transformers leaves it untyped
        try:
            self._model = AutoModelForSequenceClassification.from_pretrained(
                export.folder,
                dtype=torch.float32,
                use_safetensors=True,
                local_files_only=True,
                trust_remote_code=False,
            ).eval()
        except Exception as error:  # a file that another release wrote makes it raise anything
            what = f"{printable(export.folder)}: cannot be loaded: {printable(error, 200)}"
            raise ModelError(what, f"{REDO} {printable(export.folder)} --force") from error

    def _logits(self, batch: dict[str, Any]) -> Logits:
        import torch

        with torch.inference_mode():
            inputs = {name: torch.from_numpy(array) for name, array in batch.items()}
            logits: Logits = self._model(**inputs).logits.numpy()
        return logits
