"""Exported folders of tiny models, opened as a user opens them."""

from pathlib import Path
from typing import Any

import torch

from stages.model.classifier import Classifier
from stages.model.lora import attach_lora
from stages.tools.export import Wanted, write_model
from tests.support.adapters import shaken
from tests.support.tiny import shipped

# Of several lengths, one of them longer than what is read (12 tokens).
TEXTS = ["good w1 w2", "bad", "w4 a longer text w5 w6 unknown", "bad w1 " * 20, "plain w7 [SEP] w8"]
MAX_LENGTH = 12
TEMPERATURE = 1.25


def trained(base: Classifier, **lora: Any) -> Classifier:
    """Return the base with LoRA on every linear layer, changed as by a training."""
    params = shipped().lora.model_copy(update={"r": 4, "lora_alpha": 8, **lora})
    classifier = shaken(attach_lora(base, params))
    classifier.model.eval()
    return classifier


def wanted_logits(classifier: Classifier) -> Any:
    """Return the classifier's own logits of TEXTS, each text alone, shape (texts, classes)."""
    rows = []
    for text in TEXTS:
        batch = classifier.tokenizer(
            text, truncation=True, max_length=MAX_LENGTH, return_tensors="pt"
        )
        inputs = {name: batch[name] for name in ("input_ids", "attention_mask")}
        with torch.no_grad():
            rows.append(classifier.model(**inputs).logits[0].clone())
    return torch.stack(rows).numpy()


def exported(classifier: Classifier, folder: Path, wanted: Wanted) -> Path:
    """Return the folder of an export; the classifier is used up."""
    write_model(folder, wanted, classifier, MAX_LENGTH, TEMPERATURE)
    return folder
