"""The logits of a classifier on a few texts, and weights changed as by a training."""

from __future__ import annotations

import torch

from stages.model.classifier import Classifier

TEXTS = ["good w1 w2", "bad w3", "w4 a longer text w5 w6"]


def logits(classifier: Classifier) -> torch.Tensor:
    """Return the logits of TEXTS, shape (texts, classes)."""
    batch = classifier.tokenizer(TEXTS, padding=True, return_tensors="pt")
    classifier.model.eval()
    with torch.no_grad():
        result: torch.Tensor = classifier.model(
            input_ids=batch["input_ids"], attention_mask=batch["attention_mask"]
        ).logits
    return result


def shaken(classifier: Classifier) -> Classifier:
    """Add noise to every trainable weight, as a training would change them."""
    torch.manual_seed(0)
    with torch.no_grad():
        for parameter in classifier.model.parameters():
            if parameter.requires_grad:
                parameter += 0.05 * torch.randn_like(parameter)
    return classifier
