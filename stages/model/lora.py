"""LoRA on a classifier: which weights it adapts, and whether the params fit this model."""

from __future__ import annotations

import math
import re
import warnings
from dataclasses import replace
from typing import Any

from peft import LoraConfig, get_peft_model
from torch import nn

from stages.core.errors import ParamsError, printable
from stages.core.params import LoraParams
from stages.model.classifier import Classifier, within

# What the architectures call their query, key and value projections: BERT, RoBERTa, ELECTRA,
# ALBERT; MPNet; DistilBERT; DeBERTa-v2 and -v3; DeBERTa; ModernBERT; others.
ATTENTION = {
    *("query", "key", "value", "q", "k", "v", "q_lin", "k_lin", "v_lin", "in_proj", "Wqkv"),
    *("query_proj", "key_proj", "value_proj", "q_proj", "k_proj", "v_proj"),
}


def linear_names(classifier: Classifier) -> list[str]:
    """Return the paths of the body's linear layers, in the model's order."""
    return [
        name
        for name, module in classifier.model.named_modules()
        if isinstance(module, nn.Linear) and not within(name, classifier.head)
    ]


def resolve_targets(classifier: Classifier, wanted: str | list[str]) -> list[str]:
    """Return the module names that a role means here; names of the user's own pass through.

    Raises:
        ParamsError: if the role or a name matches no module of this model.
    """
    linear = linear_names(classifier)
    leaves = sorted({name.rpartition(".")[2] for name in linear})
    if wanted == "attention":
        names = [leaf for leaf in leaves if leaf in ATTENTION]
    elif wanted == "all-linear":
        names = leaves
    else:
        names = sorted(set(wanted))
    known = [name for name, _ in classifier.model.named_modules()]
    unknown = [name for name in names if not any(_is_or_ends(path, name) for path in known)]
    if unknown or not names:
        raise ParamsError(
            f"params.yaml: lora.target_modules: {printable(unknown or wanted)} matches no module "
            "of this model",
            f"use attention, all-linear, or names out of {', '.join(leaves)}",
        )
    return names


def _is_or_ends(path: str, name: str) -> bool:
    return path == name or path.endswith(f".{name}")


def attach_lora(classifier: Classifier, lora: LoraParams) -> Classifier:
    """Return the classifier with fresh LoRA weights and its head ready to be trained.

    B starts at zero (unless init_lora_weights says otherwise), so the logits are unchanged.
    LoRA: Hu et al. 2021, arXiv 2106.09685.

    Raises:
        ParamsError: if a field does not fit this model.
    """
    targets = resolve_targets(classifier, lora.target_modules)
    _check_fits(classifier, lora)
    fields = lora.model_dump()
    fields["lora_alpha"] = (
        int(fields["lora_alpha"]) if lora.lora_alpha % 1 == 0 else lora.lora_alpha
    )
    fields["target_modules"] = targets
    fields["modules_to_save"] = sorted({*classifier.head, *(lora.modules_to_save or [])})
    try:
        config = LoraConfig(**fields, exclude_modules=_inside(classifier))
        with warnings.catch_warnings():  # _check_used makes an error of a pattern without use
            warnings.simplefilter("ignore", RuntimeWarning)
            model = get_peft_model(classifier.model, config)
    except (ValueError, TypeError) as error:
        raise ParamsError(
            f"params.yaml: lora: PEFT refuses these fields: {printable(error, 200)}",
            "change the field it names",
        ) from error
    adapted: Any = model.base_model.targeted_module_names
    _check_used(adapted, lora)
    return replace(classifier, model=model)


def _inside(classifier: Classifier) -> list[str] | None:
    """Return the paths of all linear layers in the head: they are trained in full, not adapted."""
    names = [
        name
        for name, module in classifier.model.named_modules()
        if isinstance(module, nn.Linear) and within(name, classifier.head)
    ]
    return names or None


def _check_fits(classifier: Classifier, lora: LoraParams) -> None:
    modules = [name for name, _ in classifier.model.named_modules()]
    layers = getattr(classifier.model.config, "num_hidden_layers", math.inf)
    faults = [
        (
            f"params.yaml: lora.layers_to_transform: there is no layer {number}",
            f"this model's layers are 0 to {layers - 1}",
        )
        for number in lora.layers_to_transform or []
        if number >= layers
    ]
    faults += [
        (
            f"params.yaml: lora.modules_to_save: {printable(name)} matches no module",
            "use the name of a module, for example the last part of its path",
        )
        for name in lora.modules_to_save or []
        if not any(_is_or_ends(path, name) for path in modules)
    ]
    for field, pattern in _patterns(lora):
        try:
            re.compile(pattern)
        except re.error as error:
            what = f"{printable(pattern)} is no regular expression: {error}"
            faults.append((f"params.yaml: lora.{field}: {what}", "escape or mend it"))
    if faults:
        raise ParamsError.from_faults(faults)


def _check_used(adapted: list[str], lora: LoraParams) -> None:
    """Check that each pattern says something about an adapted module; PEFT would only warn."""
    faults = [
        (
            f"params.yaml: lora.{field}: {printable(pattern)} matches no adapted module",
            f"use a name or a pattern of one, for example of {adapted[0]}",
        )
        for field, pattern in _patterns(lora)
        if not any(re.fullmatch(rf"(.*\.)?({pattern})", path) for path in adapted)
    ]
    if faults:
        raise ParamsError.from_faults(faults)


def _patterns(lora: LoraParams) -> list[tuple[str, str]]:
    """Return (field, pattern) for each pattern of the fields that hold some."""
    fields = ("rank_pattern", "alpha_pattern")
    return [(field, pattern) for field in fields for pattern in getattr(lora, field)]
