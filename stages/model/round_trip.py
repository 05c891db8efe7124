"""Save, load and compare before the first training step: what cannot be loaded is not trained."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.random import fork_rng

from stages.core import paths
from stages.core.errors import ParamsError, UserError, printable
from stages.core.params import Params
from stages.model.classifier import Classifier
from stages.model.halves import FAILURES, probe_batch
from stages.model.methods import method_of
from stages.model.unchanged import unchanged
from stages.model.weights import read_weights

NOISE = 0.02  # on each weight that trains, as a training would change them
# Values of the LoRA fields with which every adapter loads again, in the order they are blamed.
PLAIN: dict[str, Any] = {
    "modules_to_save": None,
    "init_lora_weights": True,
    "use_dora": False,
    "bias": "none",
    "rank_pattern": {},
    "alpha_pattern": {},
    "layers_to_transform": None,
    "target_modules": "attention",
}


def check_round_trip(
    classifier: Classifier, params: Params, fresh_base: Callable[[], Classifier]
) -> None:
    """Check that a PEFT adapter of these params gives the same logits once saved and loaded.

    The classifier and torch's random numbers are left as they were.

    Args:
        classifier: with the method attached.
        params: the settings; methods that PEFT does not save are not checked.
        fresh_base: loads what the method was attached to.

    Raises:
        ParamsError: if it does not, naming the field of params.yaml that causes it.
    """
    if method_of(params).library != "peft":
        return
    with fork_rng():
        fault = _fault(classifier, params, fresh_base)
        if fault:
            field = _cause(params, fresh_base)
            value = getattr(params.lora, field) if field else ""
            raise ParamsError(
                f"params.yaml: lora{f'.{field}: {printable(json.dumps(value))}' if field else ''}: "
                f"an adapter like this cannot be loaded once it is saved: {fault}",
                f"set lora.{field} to {json.dumps(PLAIN[field])}"
                if field
                else "use the fields of the params.yaml that this project came with",
            )


def _cause(params: Params, fresh_base: Callable[[], Classifier]) -> str | None:
    """Return the first field whose plain value makes the round trip succeed."""
    for field, value in PLAIN.items():
        if getattr(params.lora, field) != value:
            lora = params.lora.model_copy(update={field: value})
            other = params.model_copy(update={"lora": lora})
            try:
                classifier = method_of(other).attach(fresh_base(), other)
            except UserError:
                continue
            if not _fault(classifier, other, fresh_base):
                return field
    return None


def _fault(
    classifier: Classifier, params: Params, fresh_base: Callable[[], Classifier]
) -> str | None:
    """Return in a few words why the adapter does not come back as it was, or None."""
    trains = [p for p in classifier.model.parameters() if p.requires_grad]
    before = [p.detach().clone() for p in trains]
    noise = torch.Generator().manual_seed(0)
    try:
        with torch.no_grad(), tempfile.TemporaryDirectory() as temporary:
            for parameter in trains:
                parameter += NOISE * torch.randn(parameter.shape, generator=noise)
            expected = _logits(classifier)
            folder = Path(temporary) / "adapter"
            method = method_of(params)
            method.save(classifier, folder, paths.BASE_MODEL)
            saved = read_weights(folder / paths.ADAPTER_WEIGHTS.name, "")
            loaded = _logits(method.load(fresh_base(), folder, saved))
    except FAILURES as error:
        return printable(error.args[0] if error.args else type(error).__name__, 150)
    finally:
        with torch.no_grad():
            for parameter, value in zip(trains, before, strict=True):
                parameter.copy_(value)
    if not bool(torch.isfinite(expected).all()):
        return None  # the training reports it
    same = torch.allclose(loaded, expected, rtol=1e-3, atol=1e-4 * float(expected.abs().max()))
    return None if same else "it gives other logits"


def _logits(classifier: Classifier) -> Tensor:
    """Return the logits of a few texts, without dropout."""
    with unchanged(classifier.model):
        classifier.model.eval()
        logits: Tensor = classifier.model(**probe_batch(classifier.tokenizer)).logits
    return logits
