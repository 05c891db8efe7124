"""What a `Predictor` computes with in PyTorch: adapter or base of models/, or a merged folder."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from transformers import AutoModelForSequenceClassification
from transformers.utils.logging import disable_progress_bar

from stages.core import paths
from stages.core.artefacts import read_object, require, sha256_of
from stages.core.errors import NumericsError, printable
from stages.core.params import ComputeParams
from stages.model.device import set_up
from stages.model.fast import speed_up
from stages.model.head import freeze_encoder, load_head
from stages.model.load import load_base
from stages.model.padding import Batch
from stages.model.saved import check_adapter, load_adapter, read_manifest
from stages.scoring.logits import predict_logits
from stages.tools.predictor import Logits, Predictor, broken

SEED = 0  # of the fresh head and of dropout, neither of which reaches an answer


def open_models(compute: ComputeParams, base: bool) -> Predictor:
    """Return the adapter of models/ in the working folder, or the base it was trained from.

    Labels, pooling and maximal length are those of the adapter's manifest.

    Args:
        compute: device, precision and threads.
        base: whether to return the base.
    """
    for folder in (paths.BASE_MODEL, paths.ADAPTER, *([paths.HEAD] if base else [])):
        require(folder)
    device = set_up(compute)
    manifest = read_manifest(paths.ADAPTER)
    labels, temperature = manifest["labels"], manifest["temperature"]
    classifier = load_base(paths.BASE_MODEL, labels, SEED, device, manifest["pooling"])
    if base:
        check_adapter(labels, paths.ADAPTER, paths.BASE_MODEL)
        load_head(classifier, paths.HEAD)
        freeze_encoder(classifier)
        temperature = read_object(paths.HEAD_FIT, "temperature")["temperature"]
    else:
        classifier = load_adapter(classifier, paths.ADAPTER, paths.BASE_MODEL)
    speed_up(classifier, device, SEED)
    tokenizer = classifier.tokenizer
    description = f"{'base' if base else 'adapter'} {device.precision}"
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
        temperature=temperature,
        sha256=sha256_of(paths.HEAD_WEIGHTS if base else paths.ADAPTER_WEIGHTS),
        score=score,
        cut=lambda texts: [len(ids) > max_length for ids in tokenizer(texts)["input_ids"]],
    )


def open_merged(folder: Path, threads: int) -> Callable[[Batch], Logits]:
    """Return the model of a Transformers folder, from a batch to its logits, on the processor."""
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
        raise broken(folder, folder, f"cannot be loaded: {printable(error, 200)}") from error

    def run(batch: Batch) -> Logits:
        inputs = {name: torch.from_numpy(array) for name, array in batch.items()}
        with torch.inference_mode():
            return np.asarray(model(**inputs).logits.numpy(), dtype=np.float32)

    return run
