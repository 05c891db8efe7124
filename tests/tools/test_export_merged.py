"""Every architecture as a plain Transformers folder: the adapter's logits, or refused."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from transformers import AutoModelForSequenceClassification, AutoTokenizer

from stages.core.errors import ParamsError
from stages.model.methods import METHODS
from stages.tools.export import Wanted
from stages.tools.predictor import open_predictor
from tests.support.adapters import shaken
from tests.support.exports import MAX_LENGTH, TEXTS, exported, trained, wanted_logits
from tests.support.tiny import MODELS, shipped

MERGED = Wanted("merged")
OWN = "ForSequenceClassification"
ANY_ENCODER = "UltraVBertForSequenceClassification"
# The class that the folder of an architecture names, by POOLINGS; None where there is none.
POOLINGS = ("auto", "first", "mean")
CLASSES: dict[str, tuple[str | None, ...]] = {
    "bert": (f"Bert{OWN}", ANY_ENCODER, ANY_ENCODER),
    "bert-no-pooler": (f"Bert{OWN}", ANY_ENCODER, ANY_ENCODER),
    "roberta": (f"Roberta{OWN}", f"Roberta{OWN}", None),
    "mpnet": (f"MPNet{OWN}", f"MPNet{OWN}", None),
    "distilbert": (f"DistilBert{OWN}", f"DistilBert{OWN}", None),
    "electra": (f"Electra{OWN}", f"Electra{OWN}", None),
    "deberta": (f"DebertaV2{OWN}", f"DebertaV2{OWN}", None),
    "albert": (f"Albert{OWN}", ANY_ENCODER, ANY_ENCODER),
    "modernbert": (f"ModernBert{OWN}", f"ModernBert{OWN}", f"ModernBert{OWN}"),
}


def test_every_architecture_is_tried() -> None:
    assert set(CLASSES) == set(MODELS)


@pytest.mark.parametrize("name", CLASSES)
@pytest.mark.parametrize("pooling", POOLINGS)
def test_the_folder_gives_the_adapters_logits_without_this_project(
    load_tiny_base: Any, tmp_path: Path, name: str, pooling: str
) -> None:
    classifier = trained(load_tiny_base(name, pooling=pooling))
    expected = wanted_logits(classifier)
    folder = tmp_path / "merged"
    wanted = CLASSES[name][POOLINGS.index(pooling)]
    if wanted is None:
        with pytest.raises(ParamsError, match=r"no class of Transformers .*Fix: use --format onnx"):
            exported(classifier, folder, MERGED)
        return
    exported(classifier, folder, MERGED)
    model, info = AutoModelForSequenceClassification.from_pretrained(
        folder, output_loading_info=True
    )
    assert type(model).__name__ == wanted
    assert not info["missing_keys"]
    assert not info["unexpected_keys"]
    assert model.config.id2label == dict(enumerate(classifier.labels))
    tokenizer = AutoTokenizer.from_pretrained(folder)
    batch = tokenizer(TEXTS, padding=True, truncation=True, return_tensors="pt")
    assert batch["input_ids"].shape[1] == MAX_LENGTH
    with torch.no_grad():
        logits = model.eval()(**batch).logits.numpy()
    np.testing.assert_allclose(logits, expected, atol=2e-5)
    np.testing.assert_allclose(open_predictor(folder).logits(TEXTS), expected, atol=2e-5)


@pytest.mark.parametrize("lora", [{"use_dora": True}, {"bias": "all"}, {"use_rslora": True}])
def test_every_kind_of_lora_is_merged(
    load_tiny_base: Any, tmp_path: Path, lora: dict[str, Any]
) -> None:
    classifier = trained(load_tiny_base("roberta"), **lora)
    expected = wanted_logits(classifier)
    folder = exported(classifier, tmp_path / "merged", MERGED)
    np.testing.assert_allclose(open_predictor(folder).logits(TEXTS), expected, atol=2e-5)


def test_full_fine_tuning_is_exported_too(load_tiny_base: Any, tmp_path: Path) -> None:
    classifier = shaken(METHODS["full"].attach(load_tiny_base("mpnet"), shipped()))
    classifier.model.eval()
    expected = wanted_logits(classifier)
    folder = exported(classifier, tmp_path / "merged", MERGED)
    np.testing.assert_allclose(open_predictor(folder).logits(TEXTS), expected, atol=2e-5)
