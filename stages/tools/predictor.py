"""The trained classifier, ready to answer: adapter, merged folder or ONNX file in one class.

An ONNX folder answers without torch and Transformers: what the others need of these is in
`predictor_torch`, which is imported for them alone.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Literal

import numpy as np
from pydantic import (
    BaseModel,
    ConfigDict,
    NonNegativeInt,
    PositiveFloat,
    PositiveInt,
    ValidationError,
)
from scipy.special import softmax
from tokenizers import Tokenizer

from stages.core import paths
from stages.core.artefacts import sha256_of
from stages.core.errors import HostError, ModelError, NumericsError, printable
from stages.core.params import ComputeParams
from stages.model.padding import Batch, padded_arrays
from stages.running.run import threads_of

Logits = np.ndarray[Any, np.dtype[np.float32]]
Probabilities = np.ndarray[Any, np.dtype[np.float64]]

AUTO = ComputeParams(device="auto", precision="auto", threads="auto")
AT_ONCE = 10_000  # texts; a tokenizer keeps kilobytes of each until it is done
BATCH_TOKENS = 2048  # padded, of an exported model: enough to keep a processor busy


@dataclass(frozen=True)
class Predictor:
    """A loaded classifier.

    Attributes:
        description: what answers and its precision, for people: "adapter bf16", "onnx int8".
        labels: class names in the order of the logits.
        max_length: tokens that are read of a text, special tokens included; the rest is cut off.
        temperature: what its weights have divided the logits by, so that the probabilities are
            calibrated on validation (Guo et al. 2017, arXiv 1706.04599).
        sha256: of the weights that answer.
        score: from texts, at least one, to their logits.
        count: from texts to their numbers of tokens before they are cut.
    """

    description: str
    labels: list[str]
    max_length: int
    temperature: float
    sha256: str
    score: Callable[[list[str]], Logits]
    count: Callable[[list[str]], list[int]]

    def logits(self, texts: Sequence[str]) -> Logits:
        """Return the logits, shape (texts, classes), in the order of the texts.

        Raises:
            NumericsError: if one of them is not finite.
        """
        parts = [self.score(list(part)) for part in _parts(texts)]
        logits = np.concatenate([np.empty((0, len(self.labels)), dtype=np.float32), *parts])
        if not np.isfinite(logits).all():
            what = f"{self.description}: a logit is not a finite number"
            raise NumericsError(what, "train with a lower train.learning_rate")
        return logits

    def shares(self, logits: Logits, raw: bool = False) -> Probabilities:
        """Return the softmax of logits (..., classes) as float64.

        Args:
            logits: as `logits` returns them.
            raw: whether to undo the temperature, for the probabilities that training left.
        """
        shares: Probabilities = softmax(
            logits.astype(np.float64) * (self.temperature if raw else 1), axis=-1
        )
        return shares

    def lengths(self, texts: Sequence[str]) -> list[int]:
        """Return how many tokens each text has, special tokens included, before it is cut off."""
        return [length for part in _parts(texts) for length in self.count(list(part))]


def _parts(texts: Sequence[str]) -> Iterator[Sequence[str]]:
    for start in range(0, len(texts), AT_ONCE):
        yield texts[start : start + AT_ONCE]


class Export(BaseModel):
    """What export.json says of a folder that `bert-lora export` wrote.

    Attributes:
        format: merged, a Transformers folder; or onnx, a graph for ONNX Runtime.
        precision: of its weights.
        labels: class names in the order of the logits.
        temperature: what the weights have divided the logits by.
        max_length: tokens that are read of a text.
        pad_token_id: token that fills the shorter rows of a batch.
        empty: token ids that stand for a text without any token.
        files: sha256 of each other file by its name.
        check: how it compared with the adapter; None before it was checked.
    """

    model_config = ConfigDict(frozen=True, strict=True, allow_inf_nan=False)

    format: Literal["merged", "onnx"]
    precision: Literal["fp32", "int8"]
    labels: list[str]
    temperature: PositiveFloat
    max_length: PositiveInt
    pad_token_id: NonNegativeInt
    empty: list[int] = [0]
    files: dict[str, str]
    check: dict[str, Any] | None = None


def open_predictor(
    folder: Path | None = None,
    compute: ComputeParams = AUTO,
    threads: int | None = None,
    *,
    base: bool = False,
    unchecked: bool = False,
) -> Predictor:
    """Return what answers, loaded and checked by the sha256 of each file.

    Args:
        folder: what `bert-lora export` wrote; None is models/ in the working folder.
        compute: device, precision and threads; an export takes the threads alone.
        threads: processor threads, in the place of those of `compute`.
        base: of models/, the base that the adapter was trained from.
        unchecked: whether an export may lack the check that ends it.

    Raises:
        HostError: if a folder is missing, or ONNX Runtime is not installed.
        ModelError: if a file is damaged, or base and adapter do not belong together.
    """
    threads = threads or threads_of(compute)
    export = None if folder is None else read_export(folder, unchecked)
    if folder and export and export.format == "onnx":
        return _of_export(folder, export, open_onnx(folder, threads))

    from stages.tools import predictor_torch  # here, since ONNX must answer without torch

    if folder and export:
        return _of_export(folder, export, predictor_torch.open_merged(folder, threads))
    return predictor_torch.open_models(compute.model_copy(update={"threads": threads}), base)


def read_export(folder: Path, unchecked: bool = False) -> Export:
    """Return what a folder's export.json says, with every file checked by its sha256.

    Raises:
        HostError: if there is no such folder.
        ModelError: if it is no exported folder, or a file is missing or damaged.
    """
    shown, record = printable(folder), folder / paths.EXPORT_RECORD
    if not folder.is_dir():
        raise HostError(f"{shown}: no such folder", f"make it: bert-lora export {shown}")
    if not record.is_file():
        raise broken(folder, record, "not found: not a folder of bert-lora export")
    try:
        export = Export.model_validate_json(record.read_bytes())
    except ValidationError:
        raise broken(folder, record, "is damaged") from None
    if export.check is None and not unchecked:
        raise broken(folder, record, "is damaged")
    for name, sha256 in export.files.items():
        path = folder / name
        if not path.is_file():
            raise broken(folder, path, "missing")
        if sha256_of(path) != sha256:  # guard: files of an export
            raise broken(folder, path, "damaged")
    return export


def broken(folder: Path, path: Path, what: str) -> ModelError:
    """Return the error for a part of an exported folder."""
    fix = f"export it again: bert-lora export {printable(folder)} --force"
    return ModelError(f"{printable(path)}: {what}", fix)


def require_onnx(*packages: str) -> None:
    """Check that packages of the extra `export` are installed.

    Raises:
        HostError: if one is missing.
    """
    if missing := [name for name in packages if find_spec(name) is None]:
        raise HostError(
            f"{missing[0]} is not installed: ONNX needs it",
            "run: pip install -e '.[export]' -c .github/constraints.txt",
        )


def open_onnx(folder: Path, threads: int) -> Callable[[Batch], Logits]:
    """Return the graph of a folder on ONNX Runtime: from a batch to its logits.

    Raises:
        HostError: if ONNX Runtime is not installed.
        ModelError: if the file cannot be loaded.
    """
    require_onnx("onnxruntime")
    import onnxruntime  # here, since it is optional

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3  # errors
    options.intra_op_num_threads = threads
    path = folder / paths.EXPORT_ONNX
    try:
        session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    except Exception as error:  # ONNX Runtime's own classes, of which each release has others
        raise broken(folder, path, f"cannot be loaded: {printable(error, 200)}") from error

    def run(batch: Batch) -> Logits:
        logits: Logits = session.run(["logits"], batch)[0]
        return logits

    return run


def _of_export(folder: Path, export: Export, run: Callable[[Batch], Logits]) -> Predictor:
    """Return the predictor of an exported folder whose model is `run`."""
    path = folder / paths.EXPORT_TOKENIZER
    try:
        tokenizer = Tokenizer.from_file(str(path))
    except Exception as error:  # the library raises Exception itself
        raise broken(folder, path, f"cannot be loaded: {printable(error, 200)}") from error
    side = (tokenizer.truncation or {}).get("direction", "right")
    tokenizer.enable_truncation(export.max_length, direction=side)
    tokenizer.no_padding()
    special = tokenizer.num_special_tokens_to_add(is_pair=False)
    tokens = BATCH_TOKENS
    # Activations are rounded to 8 bits by the range of the batch: in one with others, a text's
    # answer would depend on theirs.
    if export.precision == "int8":  # guard: int8 rows alone
        tokens = 1

    def score(texts: list[str]) -> Logits:
        rows = [found.ids or export.empty for found in tokenizer.encode_batch_fast(texts)]
        logits = np.empty((len(rows), len(export.labels)), dtype=np.float32)
        for batch in batches([len(row) for row in rows], tokens):
            logits[batch] = run(padded_arrays([rows[row] for row in batch], export.pad_token_id))
        return logits

    def count(texts: list[str]) -> list[int]:
        return [
            len(found.ids) + sum(len(rest.ids) - special for rest in found.overflowing)
            for found in tokenizer.encode_batch_fast(texts)
        ]

    weights = paths.EXPORT_ONNX if export.format == "onnx" else paths.EXPORT_WEIGHTS
    return Predictor(
        description=f"{export.format} {export.precision}",
        labels=export.labels,
        max_length=export.max_length,
        temperature=export.temperature,
        sha256=export.files[weights],
        score=score,
        count=count,
    )


def batches(lengths: Sequence[int], tokens: int) -> Iterator[list[int]]:
    """Yield the row numbers of each batch, longest rows first, so that little is padding.

    Args:
        lengths: tokens of each row, at least 1.
        tokens: of a padded batch, at most; a longer row is a batch of its own.
    """
    rows = sorted(range(len(lengths)), key=lambda row: -lengths[row])
    while rows:
        count = max(1, tokens // lengths[rows[0]])
        yield rows[:count]
        rows = rows[count:]


def fault_of(
    text: str, surrogate: str = "holds half of a surrogate pair"
) -> tuple[str, str] | None:
    """Return why a text cannot be classified, and the remedy, or None.

    Args:
        text: as it was given.
        surrogate: what a surrogate in it means, which depends on how the text was read.
    """
    if not text.strip():
        return "empty text", "fill it in or leave it out"
    if "\x00" in text:
        return "holds a NUL character", "remove it; the input may be binary"
    if not text.isascii() and any("\ud800" <= c <= "\udfff" for c in text):
        return surrogate, "give the text as UTF-8"
    return None
