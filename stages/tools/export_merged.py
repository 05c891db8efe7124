"""The trained classifier as a plain Transformers model: no PEFT, no hook, the same logits.

Transformers' own BERT class reads the first token, so mean pooling needs another class of it: a
classifier whose text encoder may be any, with the masked mean of the states and one linear layer
on top, is `UltraVBertForSequenceClassification`. Its image encoder stays at a handful of unused
weights. It loads as any other model does, without code of ours.
"""

import copy
from typing import Any

import torch
from peft import PeftModel
from peft.utils import ModulesToSaveWrapper
from torch import Tensor, nn
from transformers import AutoConfig, AutoModelForSequenceClassification

from stages.core.errors import ModelError, ParamsError, printable
from stages.model.classifier import Classifier
from stages.model.lora import ADAPTER

CLOSE = 1e-3  # logits; what float32 sums in another order differ by is a hundredth of it
PROBES = ("a", "a quiet, lovely film", "two hours that nobody will give me back, and no laugh")
UNUSED_IMAGES = {
    "model_type": "siglip_vision_model",
    "vision_use_head": False,
    **dict.fromkeys(("hidden_size", "intermediate_size", "num_hidden_layers"), 1),
    **dict.fromkeys(("num_attention_heads", "image_size", "patch_size", "num_channels"), 1),
}


def merged(classifier: Classifier) -> Any:
    """Return the model with the adapter merged into its weights; `classifier` is used up.

    The pooling hook stays: see `standard`. A trained head takes the place of PEFT's wrapper first:
    merging some methods breaks on a head of several layers otherwise.

    Raises:
        ModelError: if PEFT cannot merge the method.
    """
    model = classifier.model
    if not isinstance(model, PeftModel):
        return model.eval()
    inner: Any = model.get_base_model()
    for name, module in list(inner.named_modules()):
        if isinstance(module, ModulesToSaveWrapper):
            inner.set_submodule(name, module.modules_to_save[ADAPTER])
    try:
        plain: Any = model.merge_and_unload(safe_merge=True)
    except (AttributeError, NotImplementedError, TypeError, ValueError) as error:
        what = f"the adapter cannot be merged into the weights: {printable(error, 200)}"
        raise ModelError(what, "train with another train.method: lora, full or head") from error
    return plain.eval()


def standard(model: Any, classifier: Classifier) -> Any:
    """Return a model of Transformers' own classes with the same logits, ready to be saved.

    It is the model's class where that reads what this head reads, and otherwise the class for any
    encoder with one linear layer on top. Which one is decided by their logits.

    Args:
        model: as `merged` returns it.
        classifier: what it was made from: its tokenizer, head and pooling.

    Raises:
        ParamsError: if no class of Transformers reads this pooling under this head.
    """
    wanted = _logits(model, classifier)
    for build in (_same_class, _any_encoder):
        candidate = build(model, classifier)
        if candidate is not None and torch.allclose(
            _logits(candidate, classifier), wanted, rtol=CLOSE, atol=CLOSE
        ):
            return candidate
    name = type(model).__name__
    raise ParamsError(
        f"bert-lora export: no class of Transformers has {name}'s head and model.pooling "
        f"{classifier.pooling}, so a merged folder would give other answers",
        "use --format onnx, whose graph has the pooling in it, or train with -S model.pooling=auto",
    )


def _same_class(model: Any, _: Classifier) -> Any:
    """Return a fresh model of the same class with the same weights, None if it needs others."""
    fresh = type(model)(copy.deepcopy(model.config))
    try:
        fresh.load_state_dict(model.state_dict())
    except RuntimeError:  # a pooler that the pooling did without
        return None
    return fresh.eval()


def _any_encoder(model: Any, classifier: Classifier) -> Any:
    """Return the encoder under pooling and one linear layer, None if the head is anything else."""
    head = model.get_submodule(classifier.head[0])
    if len(classifier.head) > 1 or not isinstance(head, nn.Linear):
        return None
    encoder = getattr(model, model.base_model_prefix)
    text: dict[str, Any] = encoder.config.to_dict() | {"rms_norm_eps": 1e-6}  # of unused images
    config = AutoConfig.for_model(
        "ultravbert",
        text_config=text,
        vision_config=UNUSED_IMAGES,
        pixel_shuffle_factor=1,
        image_token_id=-1,  # no text has it
        classifier_pooling={"first": "cls"}.get(classifier.pooling, classifier.pooling),
        id2label=model.config.id2label,
        label2id=model.config.label2id,
        problem_type=model.config.problem_type,
    )
    whole = AutoModelForSequenceClassification.from_config(  # type: ignore[no-untyped-call]  # there
        config, attn_implementation=model.config._attn_implementation
    )
    with torch.no_grad():
        for parameter in whole.parameters():
            parameter.zero_()  # what no text reads is the same in every export
        whole.model.text_model.load_state_dict(encoder.state_dict(), strict=False)
        whole.classifier.load_state_dict(head.state_dict())
    return whole.eval()


def _logits(model: Any, classifier: Classifier) -> Tensor:
    """Return the logits of texts of several lengths in one batch, nan where the model fails."""
    batch = classifier.tokenizer(list(PROBES), padding=True, return_tensors="pt")
    inputs = {name: batch[name] for name in ("input_ids", "attention_mask")}
    try:
        with torch.no_grad():
            logits: Tensor = model(**inputs).logits
    except (AttributeError, TypeError, ValueError, RuntimeError):  # no pooler for the head to read
        return torch.full((len(PROBES), len(classifier.labels)), torch.nan)
    return logits
