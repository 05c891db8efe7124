"""Architectures that this project refuses by name, each with the reason.

All others that Transformers has as a sequence classifier are tried on a few texts when they are
loaded; README.md has the table of those that are tested.
"""

from __future__ import annotations

from typing import Any

from stages.core.errors import ModelError, printable

FIX = "choose an architecture from the table in README.md"
DECODER = "a decoder: a token sees only those before it, and its head reads the last one"
ENCODER_DECODER = "an encoder with a decoder: its head reads the decoder's state of the last token"
LAYOUT = "it reads where words are on a page, not texts alone"
IMAGES = "it reads images beside texts"

# model_type as in config.json: why it is refused.
REASONS: dict[str, str] = {
    **dict.fromkeys(("longformer", "led"), "its first token reads the text by weights of its own"),
    "fnet": "it has no attention mask: padding would change what a text is scored",
    "nystromformer": "it reads texts of a few fixed lengths only",
    "reformer": "it reads texts of a few fixed lengths only",
    "squeezebert": "its layers are convolutions, which LoRA's roles do not adapt",
    "ibert": "it computes with whole numbers, which cannot be trained further",
    "canine": "it reads characters, not tokens",
    "perceiver": "it reads bytes into a state of fixed length, not tokens",
    "luke": "it classifies the entities of a text",
    "tapas": "it reads tables",
    "xlnet": "its head reads the last token",
    **dict.fromkeys(("layoutlm", "layoutlmv2", "layoutlmv3", "lilt", "markuplm"), LAYOUT),
    **dict.fromkeys(("clip", "siglip", "modernvbert", "ultravbert"), IMAGES),
    **dict.fromkeys(
        ("bart", "mbart", "mvp", "plbart", "bigbird_pegasus", "pegasus"), ENCODER_DECODER
    ),
    **dict.fromkeys(("t5", "mt5", "umt5", "t5gemma", "t5gemma2", "longt5"), ENCODER_DECODER),
    **dict.fromkeys(("gpt2", "gpt_neo", "gpt_neox", "gpt_bigcode", "gpt_oss", "gptj"), DECODER),
    **dict.fromkeys(("gpt-sw3", "openai-gpt", "ctrl", "opt", "bloom", "falcon", "mpt"), DECODER),
    **dict.fromkeys(("llama", "mistral", "mixtral", "ministral", "ministral3"), DECODER),
    **dict.fromkeys(("gemma", "gemma2", "gemma3", "gemma3_text", "phi", "phi3", "phimoe"), DECODER),
    **dict.fromkeys(("qwen2", "qwen2_moe", "qwen3", "qwen3_moe", "qwen3_next"), DECODER),
    **dict.fromkeys(("olmo", "olmo2", "olmo3", "smollm3", "stablelm", "starcoder2"), DECODER),
    **dict.fromkeys(("deepseek_v2", "deepseek_v3", "glm", "glm4", "jamba", "nemotron"), DECODER),
    **dict.fromkeys(("modernbert-decoder", "biogpt", "persimmon", "zamba", "zamba2"), DECODER),
}


def refuse_unsupported(config: dict[str, Any], place: str) -> None:
    """Refuse a model of an architecture that this project cannot train.

    Args:
        config: the content of its config.json.
        place: where the model is named, for the error.

    Raises:
        ModelError: naming the architecture and the reason.
    """
    kind = config.get("model_type")
    if isinstance(kind, str) and kind in REASONS:
        raise ModelError(f"{place}: {printable(kind)} is not supported: {REASONS[kind]}", FIX)
