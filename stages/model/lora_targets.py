"""Which modules of an architecture LoRA adapts, and whether the params name modules that exist."""

from __future__ import annotations

import math
import re

from torch import nn

from stages.core.errors import ParamsError, printable
from stages.core.params import LoraParams
from stages.model.classifier import Classifier, within

# What the architectures call their query, key and value projections: BERT, RoBERTa, ELECTRA,
# ALBERT; MPNet; DistilBERT, XLM; DeBERTa-v2 and -v3; DeBERTa; ModernBERT; NomicBERT, GTE; Funnel.
ATTENTION = {
    *("q_head", "k_head", "v_head"),
    *("query", "key", "value", "q", "k", "v", "q_lin", "k_lin", "v_lin", "in_proj", "Wqkv"),
    *("query_proj", "key_proj", "value_proj", "q_proj", "k_proj", "v_proj"),
}
IN_LAYER = re.compile(r"\.\d+\.")  # encoder.layer.0.output.dense; not pooler.dense
IN_ATTENTION = re.compile("att(n|ention)")


def linear_names(classifier: Classifier) -> list[str]:
    """Return the paths of the encoder's linear layers, in the model's order."""
    return [
        name
        for name, module in classifier.model.named_modules()
        if isinstance(module, nn.Linear) and not within(name, classifier.head)
    ]


def resolve_targets(classifier: Classifier, wanted: str | list[str]) -> list[str]:
    """Return the module names that a role means here; names of the user's own pass through.

    Raises:
        ParamsError: if the role or a name matches no module of this model, or only the head's.
    """
    linear = linear_names(classifier)
    leaves = sorted({name.rpartition(".")[2] for name in linear})
    known = [name for name, _ in classifier.model.named_modules()]
    if wanted == "attention":
        names = [leaf for leaf in leaves if leaf in ATTENTION]
    elif wanted == "mlp":
        own = [path for path in linear if IN_LAYER.search(path) and not IN_ATTENTION.search(path)]
        others = set(known) - set(own)
        names = sorted({_shortest(path, others) for path in own})
    elif wanted == "all-linear":
        names = leaves
    else:
        names = sorted(set(wanted))
    unknown = [name for name in names if not any(_is_or_ends(path, name) for path in known)]
    if unknown or not names:
        raise ParamsError(
            f"params.yaml: lora.target_modules: {printable(unknown or wanted)} matches no module "
            "of this model",
            f"use attention, mlp, all-linear, or names out of {', '.join(leaves)}",
        )
    encoder = [path for path in known if not within(path, classifier.head)]
    in_head = [name for name in names if not any(_is_or_ends(path, name) for path in encoder)]
    if in_head:
        raise ParamsError(
            f"params.yaml: lora.target_modules: {printable(', '.join(in_head))}: in the head "
            f"({', '.join(classifier.head)}), which is trained in full and not adapted",
            f"leave {printable(', '.join(in_head))} out",
        )
    return names


def modules_saved(classifier: Classifier, wanted: list[str]) -> list[str]:
    """Return the modules that are trained in full: the head, and the wanted ones outside of it.

    PEFT takes a name for the end of a path (embeddings also matches word_embeddings), and cannot
    load what it saved of a module in another saved one. Where a name would do so, the paths that
    it stands for take its place.
    """
    paths = [name for name, _ in classifier.model.named_modules() if name]
    found = [path for path in paths if any(_is_or_ends(path, name) for name in wanted)]
    everything = {*classifier.head, *found}
    outer = [p for p in found if not within(p, tuple(everything - {p}))]
    taken = [path for path in paths if path.endswith(tuple(wanted))]
    return sorted({*classifier.head, *(wanted if outer == found == taken else outer)})


def _shortest(path: str, others: set[str]) -> str:
    """Return the shortest end of a path by which PEFT takes none of the others."""
    parts = path.split(".")
    ends = (".".join(parts[start:]) for start in range(len(parts) - 1, -1, -1))
    return next(end for end in ends if not any(_is_or_ends(other, end) for other in others))


def _is_or_ends(path: str, name: str) -> bool:
    return path == name or path.endswith(f".{name}")


def check_names(classifier: Classifier, lora: LoraParams) -> None:
    """Check layers, modules to save and patterns against the model.

    Raises:
        ParamsError: with every fault.
    """
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
            faults.append((f"params.yaml: lora.{field}: {what}", "escape or correct it"))
    if faults:
        raise ParamsError.from_faults(faults)


def check_patterns(adapted: list[str], lora: LoraParams) -> None:
    """Check that each pattern matches an adapted module; PEFT would only warn.

    Raises:
        ParamsError: with every pattern that matches none.
    """
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
