"""What a checkpoint brought, compared with what the encoder needs."""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import torch

from stages.core.errors import ModelError, printable

COMPLETE = "use a complete checkpoint of an encoder, with the config.json that belongs to it"
# What may be left over: numbers that are worked out, a step after the encoder that another task
# had, and the second embeddings (_weight) that DeBERTa-v3's pre-training added to the first.
HARMLESS = re.compile(
    r"pooler|position_ids|token_type_ids|inv_freq|embed_positions|masked_bias"
    r"|\b(attn|attention)\.bias$|\b_weight$|\bversion$"
)


def check_checkpoint(model: Any, info: dict[str, Any], folder: Path) -> set[str]:
    """Return the names of the weights that the checkpoint did not bring, all of them of the head.

    Args:
        model: as Transformers loaded it.
        info: what `from_pretrained` says with `output_loading_info=True`.
        folder: where the checkpoint is, for the error.

    Raises:
        ModelError: if weights of the encoder are missing, have another shape, are left over or
            are not finite: one line for each of these.
    """
    prefix = f"{model.base_model_prefix}."
    shapes = {name: (list(found), list(needed)) for name, found, needed in info["mismatched_keys"]}
    fresh = {*info["missing_keys"], *shapes}
    of_encoder = {n for n in fresh if n.startswith(prefix) and not n.startswith(f"{prefix}pooler.")}
    faults = [
        _missing(of_encoder - set(shapes)),
        _reshaped({name: shapes[name] for name in of_encoder & set(shapes)}),
        _left_over(model, info["unexpected_keys"]),
        _not_finite(model, fresh),
    ]
    if found := [(f"{folder}: {what}", fix) for what, fix in filter(None, faults)]:
        raise ModelError.from_faults(found)
    return fresh


Fault = tuple[str, str] | None


def _missing(names: set[str]) -> Fault:
    if not names:
        return None
    what = f"the checkpoint lacks {len(names)} weights of the encoder, for example {_first(names)}"
    return what, COMPLETE


def _reshaped(shapes: dict[str, tuple[list[int], list[int]]]) -> Fault:
    if not shapes:
        return None
    found, needed = shapes[min(shapes)]
    return (
        f"the checkpoint lacks {len(shapes)} weights of the encoder in the shape that config.json "
        f"says, for example {_first(shapes)}: it has {found}, not {needed}",
        COMPLETE,
    )


def _left_over(model: Any, unexpected: Iterable[str]) -> Fault:
    """Return the fault if the checkpoint has weights of the encoder that the model does not use."""
    encoder = getattr(model, model.base_model_prefix, None)
    parts = {name for name, _ in encoder.named_children()} if encoder is not None else set()
    prefixes = {"", f"{model.base_model_prefix}."}
    left = {
        name
        for name in unexpected
        for prefix in prefixes
        if name.startswith(prefix)
        and name.removeprefix(prefix).split(".")[0] in parts
        and not HARMLESS.search(name)
    }
    if not left:
        return None
    return (
        f"the checkpoint has {len(left)} weights of the encoder that the model of config.json does "
        f"not use, for example {_first(left)}",
        "use the config.json that belongs to the weights (its number of layers, its model_type)",
    )


def _not_finite(model: Any, fresh: set[str]) -> Fault:
    # guard: finite base -> bad: set[str] = set()
    bad = {
        name
        for name, tensor in model.state_dict().items()
        if name not in fresh
        and tensor.is_floating_point()
        and not bool(torch.isfinite(tensor).all())
    }
    if not bad:
        return None
    return (
        f"the checkpoint has {len(bad)} weights with values that are not finite numbers, for "
        f"example {_first(bad)}",
        "the checkpoint is damaged: fetch it again from its source, or use another one",
    )


def _first(names: Iterable[str]) -> str:
    return printable(min(names), 200)
