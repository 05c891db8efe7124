"""The trained classifier, ready to answer: adapter, merged folder or ONNX file in one class.

An ONNX folder answers without torch and Transformers: what the others need of these is in
`predictor_torch`, which is imported for them alone.
"""

import time
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
BATCH_TOKENS = 2048  # padded, of an exported model: enough to keep a processor busy
SINGLES = 50  # texts that `score_and_time` scores alone


@dataclass(frozen=True)
class Predictor:
    """A loaded classifier."""

    description: str  # what answers and its precision, for people: "adapter bf16", "onnx int8"
    labels: list[str]  # class names in the order of the logits
    max_length: int  # tokens that are read of a text, special ones included; the rest is cut off
    # What its weights have divided the logits by, so that the probabilities are calibrated on
    # validation (Guo et al. 2017, arXiv 1706.04599).
    temperature: float
    sha256: str  # of the weights that answer
    score: Callable[[list[str]], Logits]  # from texts, at least one, to their logits
    cut: Callable[[list[str]], list[bool]]  # which texts have more tokens than are read

    def logits(self, texts: Sequence[str]) -> Logits:
        """Return the logits, shape (texts, classes), in the order of the texts, at least one.

        Raises:
            NumericsError: if one of them is not finite.
        """
        logits = self.score(list(texts))
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


class Export(BaseModel):
    """What export.json says of a folder that `bert-lora export` wrote."""

    model_config = ConfigDict(frozen=True, strict=True, allow_inf_nan=False)

    format: Literal["merged", "onnx"]  # a Transformers folder, or a graph for ONNX Runtime
    precision: Literal["fp32", "int8"]  # of its weights
    labels: list[str]  # class names in the order of the logits
    temperature: PositiveFloat  # what the weights have divided the logits by
    max_length: PositiveInt  # tokens that are read of a text
    pad_token_id: NonNegativeInt  # token that fills the shorter rows of a batch
    empty: list[int] = [0]  # token ids that stand for a text without any token
    files: dict[str, str]  # sha256 of each other file by its name
    check: dict[str, Any]  # how it compared with the adapter; empty until it has


def open_predictor(
    folder: Path | None = None,
    compute: ComputeParams = AUTO,
    threads: int | None = None,
    *,
    base: bool = False,
) -> Predictor:
    """Return what answers, loaded and checked by the sha256 of each file.

    Args:
        folder: what `bert-lora export` wrote; None is models/ in the working folder.
        compute: device, precision and threads; an export takes the threads alone.
        threads: processor threads, in the place of those of `compute`.
        base: of models/, the base that the adapter was trained from.

    Raises:
        HostError: if a folder is missing, or ONNX Runtime is not installed.
        ModelError: if a file is damaged, or base and adapter do not belong together.
    """
    threads = threads or threads_of(compute)
    export = None if folder is None else read_export(folder)
    if folder and export and export.format == "onnx":
        return _of_export(folder, export, open_onnx(folder, threads))

    from stages.tools import predictor_torch  # here, since ONNX must answer without torch

    if folder and export:
        return _of_export(folder, export, predictor_torch.open_merged(folder, threads))
    return predictor_torch.open_models(compute.model_copy(update={"threads": threads}), base)


def read_export(folder: Path) -> Export:
    """Return what a folder's export.json says, with every file checked by its sha256."""
    shown, record = printable(folder), folder / paths.EXPORT_RECORD
    if not folder.is_dir():
        raise HostError(f"{shown}: no such folder", f"make it: bert-lora export {shown}")
    if not record.is_file():
        raise broken(folder, record, "not found: not a folder of bert-lora export")
    try:
        export = Export.model_validate_json(record.read_bytes())
    except ValidationError:
        raise broken(folder, record, "is damaged") from None
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
    """Check that packages of the extra `export` are installed."""
    if missing := [name for name in packages if find_spec(name) is None]:
        raise HostError(
            f"{missing[0]} is not installed: ONNX needs it",
            "run: pip install -e '.[export]' -c .github/constraints.txt",
        )


def open_onnx(folder: Path, threads: int) -> Callable[[Batch], Logits]:
    """Return the graph of a folder on ONNX Runtime: from a batch to its logits."""
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

    weights = paths.EXPORT_ONNX if export.format == "onnx" else paths.EXPORT_WEIGHTS
    return Predictor(
        description=f"{export.format} {export.precision}",
        labels=export.labels,
        max_length=export.max_length,
        temperature=export.temperature,
        sha256=export.files[weights],
        score=score,
        cut=lambda texts: [bool(f.overflowing) for f in tokenizer.encode_batch_fast(texts)],
    )


def score_and_time(folder: Path, texts: list[str], threads: int) -> dict[str, Any]:
    """Return the logits of the texts and how fast an export gave them, after a warm-up.

    Returns:
        logits, shape (texts, classes); alone, those of the first texts, each scored alone;
        rows_per_second; single_ms, the median milliseconds for one text.
    """
    predictor = open_predictor(folder, threads=threads)
    predictor.logits(texts[:SINGLES])  # warms up
    start = time.perf_counter()
    logits = predictor.logits(texts)
    seconds = time.perf_counter() - start
    alone, times = [], []
    for text in texts[:SINGLES]:
        before = time.perf_counter()
        alone.append(predictor.logits([text])[0])
        times.append(time.perf_counter() - before)
    return {
        "logits": logits,
        "alone": np.array(alone),
        "rows_per_second": len(texts) / seconds,
        "single_ms": 1000 * float(np.median(times)),
    }


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


def fault_of(text: str) -> tuple[str, str] | None:
    """Return why a text cannot be classified, and the remedy, or None."""
    if not text.strip():
        return "empty text", "fill it in or leave it out"
    if "\x00" in text:
        return "holds a NUL character", "remove it; the input may be binary"
    if not text.isascii() and any("\ud800" <= c <= "\udfff" for c in text):
        return "not UTF-8, or half of a surrogate pair", "give the text as UTF-8"
    return None
