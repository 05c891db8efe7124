"""Architectures that this project refuses by name, each with the reason.

All others that Transformers has as a sequence classifier are tried on a few texts when they are
loaded; models/README.md has the table of those that are tested.
"""

from typing import Any

from transformers import CONFIG_MAPPING
from transformers.models.auto.modeling_auto import (
    MODEL_FOR_CAUSAL_LM_MAPPING_NAMES,
    MODEL_FOR_MASKED_LM_MAPPING_NAMES,
    MODEL_FOR_SEQ_TO_SEQ_CAUSAL_LM_MAPPING_NAMES,
    MODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING_NAMES,
)

from stages.core.errors import ModelError, printable

FIX = "choose an architecture from the table in models/README.md"
DECODER = "a decoder: a token sees only those before it, and its head reads the last one"
ENCODER_DECODER = "an encoder with a decoder: its head reads the decoder's state of the last token"

# model_type as in config.json: why it is refused. The trial finds nothing wrong with the last ones,
# or fails in a way that says little.
REASONS: dict[str, str] = {
    **{
        kind: DECODER
        for kind in MODEL_FOR_CAUSAL_LM_MAPPING_NAMES
        if kind not in MODEL_FOR_MASKED_LM_MAPPING_NAMES
    },
    **dict.fromkeys(MODEL_FOR_SEQ_TO_SEQ_CAUSAL_LM_MAPPING_NAMES, ENCODER_DECODER),
    "fnet": "it has no attention mask: padding would change what a text is scored",
    "reformer": "it reads texts of a few fixed lengths only",
    "squeezebert": "its layers are convolutions, which LoRA's roles do not adapt",
    "ibert": "it computes with whole numbers, which cannot be trained further",
    "canine": "it reads characters, not tokens",
    "perceiver": "it reads bytes into a state of fixed length, not tokens",
    "tapas": "it reads tables",
    **dict.fromkeys(
        ("layoutlm", "markuplm"), "it reads where words are on a page, not texts alone"
    ),
}


def refuse_unsupported(config: dict[str, Any], place: str) -> None:
    """Refuse a model of an architecture that this project cannot train.

    Args:
        config: the content of its config.json.
        place: where the model is named, for the error.

    Raises:
        ModelError: naming the architecture and the reason.
    """
    kind = str(config.get("model_type"))
    reason = REASONS.get(kind)
    if kind in CONFIG_MAPPING and kind not in MODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING_NAMES:
        reason = reason or "Transformers has no classifier of texts for it"
    if reason:
        raise ModelError(f"{place}: {printable(kind)} is not supported: {reason}", FIX)
