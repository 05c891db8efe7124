"""What a `Predictor` computes with in PyTorch: adapter or base of models/, or a merged folder."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from transformers import AutoModelForSequenceClassification
from transformers.utils.logging import disable_progress_bar

from stages.core import paths
from stages.core.artefacts import read_object, remake, require, sha256_of
from stages.core.errors import DataError, NumericsError, printable
from stages.core.params import ComputeParams
from stages.model.device import set_up
from stages.model.fast import speed_up
from stages.model.head import freeze_encoder, load_head
from stages.model.load import load_base
from stages.model.padding import Batch
from stages.model.saved import check_adapter, load_adapter, read_manifest
from stages.scoring.logits import predict_logits
from stages.tools.predictor import Logits, Predictor, cannot_load

SEED = 0  # of the fresh head and of dropout, neither of which reaches an answer


def open_models(compute: ComputeParams, base: bool) -> Predictor:
    """Return the adapter of models/ in the working folder, or the base it was trained from.

    Labels, pooling and maximal length are those of the adapter's manifest.

    Args:
        compute: device, precision and threads.
        base: whether to return the base.

    Raises:
        HostError: if a folder is missing.
        ModelError: if a file is damaged, or base and adapter do not belong together.
        DataError: if the metrics hold no valid temperature.
    """
    for folder in (paths.BASE_MODEL, paths.ADAPTER, *([paths.HEAD] if base else [])):
        require(folder)
    device = set_up(compute)
    manifest = read_manifest(paths.ADAPTER)
    labels = manifest["labels"]
    classifier = load_base(paths.BASE_MODEL, labels, SEED, device, manifest["pooling"])
    if base:
        check_adapter(labels, paths.ADAPTER, paths.BASE_MODEL)
        load_head(classifier, paths.HEAD)
        freeze_encoder(classifier)
        name, weights, metrics = "base", paths.HEAD_WEIGHTS, paths.BASE_METRICS
    else:
        classifier = load_adapter(classifier, paths.ADAPTER, paths.BASE_MODEL)
        name, weights, metrics = "adapter", paths.ADAPTER_WEIGHTS, paths.ADAPTER_METRICS
    speed_up(classifier, device, SEED)
    tokenizer = classifier.tokenizer
    description = f"{name} {device.precision}"
    max_length = min(manifest["max_length"], int(tokenizer.model_max_length))

    def score(texts: list[str]) -> Logits:
        try:  # without a title, for no progress bar
            logits = predict_logits(classifier, texts, max_length, device, "")
        except NumericsError as error:
            ((what, fix),) = error.faults
            raise NumericsError(f"{description}{what}", fix) from None
        return np.asarray(logits.numpy(), dtype=np.float32)

    return Predictor(
        description=description,
        labels=labels,
        max_length=max_length,
        temperature=temperature_of(metrics),
        sha256=sha256_of(weights),
        score=score,
        count=lambda texts: [len(ids) for ids in tokenizer(texts)["input_ids"]],
    )


def temperature_of(path: Path) -> float:
    """Return the temperature in a model's metrics; 1 where there are none, as in models/ alone.

    Raises:
        DataError: if the file is there and holds no positive number.
    """
    if not path.exists():
        return 1.0
    value = read_object(path, "temperature")["temperature"]
    if type(value) not in (int, float) or not 0 < value < float("inf"):
        what = f"{path}: temperature: expected a positive number, got {printable(value)}"
        raise DataError(what, remake(path))
    return float(value)


def open_merged(folder: Path, threads: int) -> Callable[[Batch], Logits]:
    """Return the model of a Transformers folder, from a batch to its logits, on the processor.

    Raises:
        ModelError: if Transformers cannot load it.
    """
    torch.set_num_threads(threads)
    disable_progress_bar()  # type: ignore[no-untyped-call]  # Transformers leaves it untyped
    try:
        model = AutoModelForSequenceClassification.from_pretrained(
            folder,
            dtype=torch.float32,
            use_safetensors=True,
            local_files_only=True,
            trust_remote_code=False,
        ).eval()
    except Exception as error:  # a file that another release wrote makes it raise anything
        raise cannot_load(folder, folder, error) from error

    def run(batch: Batch) -> Logits:
        with torch.inference_mode():
            logits = model(
                **{name: torch.from_numpy(array) for name, array in batch.items()}
            ).logits
        return np.asarray(logits.numpy(), dtype=np.float32)

    return run
