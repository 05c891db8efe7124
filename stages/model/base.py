"""Load the foundation model as a classifier, and check that this project can use it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from transformers import AutoConfig, AutoModelForSequenceClassification, set_seed
from transformers.utils.logging import disable_progress_bar

from stages.core.artefacts import require
from stages.core.errors import ModelError, UserError, printable
from stages.model.checkpoint import check_checkpoint
from stages.model.classifier import Classifier
from stages.model.device import Device
from stages.model.halves import find_halves
from stages.model.limits import position_limit
from stages.model.pooling import Pooling, set_pooling
from stages.model.tokenizer import check_tokenizer, load_tokenizer
from stages.sources.architectures import refuse_unsupported

# What the architectures call the share of attention weights that dropout sets to zero.
ATTENTION_DROPOUT = ("attention_probs_dropout_prob", "attention_dropout")
REFETCH = "fetch it again: dvc repro -f fetch_base"


def load_base(
    folder: Path,
    labels: list[str],
    seed: int,
    device: Device,
    pooling: Pooling = "auto",
    attention_dropout: float | None = None,
) -> Classifier:
    """Return the foundation model with a fresh head of len(labels) classes, on the CPU.

    The seed is set first, so the fresh head is the same each time.

    Args:
        folder: a Transformers folder with config, weights and tokenizer.
        labels: class names in the order of the logits.
        seed: of the fresh head.
        device: what the model will run on; it decides the attention kernel.
        pooling: which state the head reads: see `pooling.set_pooling`.
        attention_dropout: share of attention weights set to zero in training; None is the model's.

    Raises:
        HostError: if there is no such folder.
        ModelError: if the folder holds no complete, supported safetensors checkpoint.
    """
    disable_progress_bar()  # type: ignore[no-untyped-call]  # Transformers leaves it untyped
    require(folder)
    set_seed(seed)
    try:
        config = AutoConfig.from_pretrained(
            folder,
            num_labels=len(labels),
            id2label=dict(enumerate(labels)),
            label2id={label: index for index, label in enumerate(labels)},
            problem_type="single_label_classification",
            local_files_only=True,
            trust_remote_code=False,
        )
        refuse_unsupported({"model_type": config.model_type}, str(folder))
        for name in ATTENTION_DROPOUT if attention_dropout is not None else ():
            if hasattr(config, name):
                setattr(config, name, attention_dropout)
        model, info = AutoModelForSequenceClassification.from_pretrained(
            folder,
            config=config,
            dtype=torch.float32,
            attn_implementation=device.attention,
            use_safetensors=True,
            local_files_only=True,
            trust_remote_code=False,
            ignore_mismatched_sizes=True,
            output_loading_info=True,
        )
    except UserError:
        raise
    except Exception as error:  # a damaged file makes the loaders raise anything
        raise ModelError(f"{folder}: cannot be loaded: {printable(error, 300)}", REFETCH) from error
    tokenizer = load_tokenizer(folder)
    fresh = check_checkpoint(model, info, folder)
    limit = position_limit(model)
    if limit is not None:  # longer texts are cut
        tokenizer.model_max_length = min(tokenizer.model_max_length, limit)
    pooling = set_pooling(model, pooling)
    check_tokenizer(tokenizer, model, folder, pooling)
    head = _head_modules(model, fresh)
    classifier = Classifier(model, tokenizer, head, tuple(labels), pooling)
    return find_halves(classifier, folder, device.bf16)


def _head_modules(model: Any, fresh: set[str]) -> tuple[str, ...]:
    """Return the module paths of the head: what is new, and what is outside the encoder."""
    encoder = model.base_model_prefix
    modules = set()
    for name, _ in model.named_parameters():
        if not name.startswith(f"{encoder}."):
            modules.add(name.split(".")[0])
        elif name in fresh:
            modules.add(".".join(name.split(".")[:2]))
    return tuple(sorted(modules))
