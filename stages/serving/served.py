"""What a server serves: a model, its base where there is one, and what explains an answer."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from stages.core import paths
from stages.core.artefacts import read_object, remake, sha256_of
from stages.core.errors import DataError, printable
from stages.core.params import ComputeParams
from stages.serving.attribution import Explainer, Gradients
from stages.serving.scorer import Logits, Scorer

if TYPE_CHECKING:  # ONNX needs no torch
    from stages.model.classifier import Classifier
    from stages.model.device import Device

# By how much a probability may differ from that of another batch: padding and the number of rows
# change the order of sums, and bf16 keeps eight bits of each number. Largest differences seen on
# 600 test rows, alone, in batches of 17 and all together: 2e-6 in fp32, 0.004 in bf16.
TOLERANCE = {"fp32": 1e-5, "bf16": 0.02}


@dataclass(frozen=True)
class Served:
    """What answers.

    Attributes:
        model: the trained model.
        base: what it was trained from, or None.
        explainers: for `model` and `base`, as far as they are served.
        files: the sha256 of each file that the answers depend on.
        facts: device, precision and the like.
        tolerance: by how much a probability may differ from that of another batch.
    """

    model: Scorer
    base: Scorer | None
    explainers: dict[str, Explainer]
    files: dict[str, str]
    facts: dict[str, str] = field(default_factory=dict)
    tolerance: float = TOLERANCE["fp32"]


@dataclass
class ClassifierScorer:
    """A classifier in PyTorch as a `Scorer`."""

    classifier: Classifier
    device: Device
    description: str
    labels: list[str]
    max_length: int
    temperature: float
    sha256: str

    def score(self, texts: Sequence[str]) -> Logits:
        """Return the logits, shape (texts, classes), in the order of the texts."""
        from stages.scoring.logits import predict_logits

        logits = predict_logits(self.classifier, list(texts), self.max_length, self.device, "")
        return np.asarray(logits.numpy(), dtype=np.float32)

    def lengths(self, texts: Sequence[str]) -> list[int]:
        """Return how many tokens each text has, special tokens included, before it is cut off."""
        return [len(ids) for ids in self.classifier.tokenizer(list(texts))["input_ids"]]


def serve_adapter(compute: ComputeParams, with_base: bool) -> Served:
    """Return the adapter of models/ in the working folder, as `bert-lora predict` runs it.

    Raises:
        HostError: if a folder is missing.
        ModelError: if a file is damaged, or base and adapter do not belong together.
        DataError: if the metrics hold no valid temperature.
    """
    from stages.model.methods import METHODS
    from stages.model.saved import read_manifest
    from stages.serving.predictor import Predictor

    temperature = temperature_of(paths.ADAPTER_METRICS)
    predictor = Predictor.load(compute, with_base)
    manifest = read_manifest(paths.ADAPTER)
    sha256 = manifest["files"][paths.ADAPTER_WEIGHTS.name]
    model = ClassifierScorer(
        predictor.adapter,
        predictor.device,
        f"adapter: {METHODS[manifest['method']].title}",
        predictor.labels,
        predictor.tokens_read,
        temperature,
        sha256,
    )
    served = Served(
        model=model,
        base=None,
        explainers={"model": _explainer("model", compute, model)},
        files={**base_files(manifest), paths.ADAPTER_WEIGHTS.as_posix(): sha256},
        facts=predictor.device.facts(),
        tolerance=TOLERANCE[predictor.device.precision],
    )
    if predictor.base is None:
        return served
    return _with_base(served, predictor.base, predictor.device, compute)


def serve_base(compute: ComputeParams) -> Served:
    """Return the base of models/ in the working folder as `base`, and also as the model.

    Raises:
        HostError: if a folder is missing.
        ModelError: if a file is damaged, or base and adapter do not belong together.
        DataError: if the metrics hold no valid temperature.
    """
    served = serve_adapter(compute, with_base=True)
    assert served.base is not None  # noqa: S101  # was asked for
    files = {name: sha for name, sha in served.files.items() if name != str(paths.ADAPTER_WEIGHTS)}
    explainers = {"base": served.explainers["base"]}
    return replace(served, model=served.base, explainers=explainers, files=files)


def base_files(manifest: dict[str, Any]) -> dict[str, str]:
    """Return the sha256 of each file of the base model, as the adapter's manifest has them."""
    return {(paths.BASE_MODEL / name).as_posix(): sha for name, sha in manifest["base"].items()}


def _with_base(
    served: Served, classifier: Classifier, device: Device, compute: ComputeParams
) -> Served:
    sha256 = sha256_of(paths.HEAD_WEIGHTS)
    labels, length = served.model.labels, served.model.max_length
    temperature = temperature_of(paths.BASE_METRICS)
    base = ClassifierScorer(
        classifier, device, "base: linear probe", labels, length, temperature, sha256
    )
    return replace(
        served,
        base=base,
        explainers={**served.explainers, "base": _explainer("base", compute, base)},
        files={**served.files, paths.HEAD_WEIGHTS.as_posix(): sha256},
    )


def _explainer(name: str, compute: ComputeParams, scorer: Scorer) -> Explainer:
    root = Path.cwd()
    return Gradients(lambda: plain_classifier(compute, name, root), scorer.max_length)


def plain_classifier(compute: ComputeParams, name: str, root: Path) -> tuple[Classifier, Any]:
    """Return a classifier in float32 without any speed-up, and where it runs.

    Args:
        compute: device and threads.
        name: "model" for the adapter, "base" for the base.
        root: the folder that holds models/.
    """
    from stages.model.base import load_base
    from stages.model.device import resolve
    from stages.model.head import load_head
    from stages.model.saved import load_adapter, read_manifest
    from stages.serving.predictor import SEED

    device = resolve(compute.model_copy(update={"precision": "fp32"}))
    base, adapter = root / paths.BASE_MODEL, root / paths.ADAPTER
    manifest = read_manifest(adapter)
    classifier = load_base(base, manifest["labels"], SEED, device, manifest["pooling"])
    if name == "model":
        classifier = load_adapter(classifier, adapter, base)
    else:
        load_head(classifier, root / paths.HEAD)
    classifier.model.to(device.torch_device).eval().requires_grad_(False)
    return classifier, device.torch_device


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
