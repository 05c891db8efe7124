"""The logits of a classifier on a few texts, and weights changed as by a training."""

from __future__ import annotations

from typing import Any

import torch
from transformers.modeling_outputs import BaseModelOutputWithPooling

from stages.core import paths
from stages.model.classifier import Classifier, Pooling
from stages.model.device import resolve
from stages.model.load import load_base
from tests.support.tiny import COMPUTE, NAMES

CPU = resolve(COMPUTE)
BF16 = resolve(COMPUTE.model_copy(update={"precision": "bf16"}))
TEXTS = ["good w1 w2", "bad w3", "w4 a longer text w5 w6"]


def load(pooling: Pooling = "auto", **options: Any) -> Classifier:
    """Return the model in models/base of the current folder, for two classes."""
    return load_base(paths.BASE_MODEL, list(NAMES[:2]), 42, CPU, pooling, **options)


def inputs_of(classifier: Classifier, texts: list[str] = TEXTS) -> dict[str, Any]:
    """Return what the model takes of some texts, padded."""
    batch = classifier.tokenizer(texts, padding=True, truncation=True, return_tensors="pt")
    return {name: batch[name] for name in ("input_ids", "attention_mask")}


def logits(classifier: Classifier) -> torch.Tensor:
    """Return the logits of TEXTS, shape (texts, classes)."""
    with torch.no_grad():
        result: torch.Tensor = classifier.model.eval()(**inputs_of(classifier)).logits
    return result


def shaken(classifier: Classifier) -> Classifier:
    """Add noise to every trainable weight, as a training would change them."""
    torch.manual_seed(0)
    with torch.no_grad():
        for parameter in classifier.model.parameters():
            if parameter.requires_grad:
                parameter += 0.05 * torch.randn_like(parameter)
    return classifier


def read_the_mean(model: Any) -> Any:
    """Let the head of a plain BERT read the mean of the token states, without this project."""

    def mean(_: Any, __: Any, inputs: dict[str, Any], output: Any) -> BaseModelOutputWithPooling:
        mask = inputs["attention_mask"].unsqueeze(-1)
        state = (output.last_hidden_state * mask).sum(1, keepdim=True) / mask.sum(1, keepdim=True)
        return BaseModelOutputWithPooling(last_hidden_state=state, pooler_output=state[:, 0])

    model.bert.pooler = None
    model.bert.register_forward_hook(mean, with_kwargs=True)
    return model
