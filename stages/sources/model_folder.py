"""The files a model folder may hold, and what makes such a folder safe and complete."""

from __future__ import annotations

import json
from pathlib import Path

from stages.core.errors import ModelError, printable
from stages.sources.architectures import refuse_unsupported

TOKENIZER_FILES = (
    "tokenizer.json",
    "vocab.txt",
    "vocab.json",
    "spm.model",
    "sentencepiece.bpe.model",
)
MODEL_FILES = (
    "config.json",
    "model.safetensors",
    *TOKENIZER_FILES,
    "merges.txt",
    "added_tokens.json",
    "special_tokens_map.json",
    "tokenizer_config.json",
)
SHARDS = "model.safetensors.index.json"


def check_model(folder: Path, place: str) -> dict[str, Path]:
    """Return the files of a model folder by name: those of MODEL_FILES that it holds.

    Args:
        folder: the model's folder; its other files are ignored.
        place: where the model is named, for the error.

    Raises:
        ModelError: if the configuration, the weights as one safetensors file or the tokenizer is
            missing or damaged, or the model needs code of its own.
    """
    files = {name: folder / name for name in MODEL_FILES if (folder / name).is_file()}
    if "config.json" not in files:
        raise ModelError(f"{place}: holds no config.json", "give a folder saved by Transformers")
    _check_weights(folder, place)  # guard: no pickled weights
    if not set(files) & set(TOKENIZER_FILES):
        raise ModelError(
            f"{place}: holds no tokenizer ({', '.join(TOKENIZER_FILES)})",
            "save the tokenizer with the model: tokenizer.save_pretrained(folder)",
        )
    for name in sorted(set(files) & {"config.json", "tokenizer_config.json"}):
        _refuse_code(files[name], place)
    return files


def _check_weights(folder: Path, place: str) -> None:
    weights = folder / "model.safetensors"
    save = "AutoModel.from_pretrained(folder).save_pretrained(new_folder"
    if weights.is_file():
        _check_safetensors(weights, place)
    elif (folder / SHARDS).is_file():
        raise ModelError(
            f"{place}: the weights are in shards",
            f"save them as one file: {save}, max_shard_size='100GB')",
        )
    else:
        raise ModelError(
            f"{place}: holds no model.safetensors; pickle weights are refused, "
            "since loading them can run code",
            f"if you trust their author, convert them once: {save})",
        )


def _check_safetensors(weights: Path, place: str) -> None:
    """Read the header, which gives the file's size: a truncated file is found at once."""
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(weights, framework="numpy"):
            pass
    except SafetensorError as error:
        raise ModelError(
            f"{place}: model.safetensors is not a complete safetensors file: {printable(error)}",
            "fetch it again (a Git LFS pointer needs: git lfs pull)",
        ) from None


def _refuse_code(config: Path, place: str) -> None:
    try:
        content = json.loads(config.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise ModelError(
            f"{place}: {config.name}: not valid JSON: {printable(error)}", "fetch the file again"
        ) from None
    if not isinstance(content, dict):
        raise ModelError(f"{place}: {config.name}: not a JSON object", "fetch the file again")
    refuse_unsupported(content, place)
    if "auto_map" in content:  # guard: no code of a model
        raise ModelError(
            f"{place}: {config.name} has auto_map: the model needs code of its own",
            "choose a model that Transformers itself knows: code from a model folder is never run",
        )
