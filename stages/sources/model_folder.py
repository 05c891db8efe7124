"""The files of a model folder that are fetched, and what makes such a folder safe and complete.

Nothing is unpickled, and no code of the folder is run. What is wrong inside a tokenizer's files,
Transformers says when the model is loaded.
"""

import json
import re
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from transformers import CONFIG_MAPPING
from transformers.models.auto.modeling_auto import (
    MODEL_FOR_CAUSAL_LM_MAPPING_NAMES,
    MODEL_FOR_MASKED_LM_MAPPING_NAMES,
    MODEL_FOR_SEQ_TO_SEQ_CAUSAL_LM_MAPPING_NAMES,
    MODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING_NAMES,
)

from stages.core.errors import ModelError, printable
from stages.sources.catalogue import MODEL_FILES, WEIGHTS

CONFIG = "config.json"
ADAPTER_CONFIG = "adapter_config.json"
TOKENIZER_CONFIG = "tokenizer_config.json"
TOKENIZER_JSON = "tokenizer.json"
VOCABULARIES = ("tokenizer.json", "tokenizer.*.json", "vocab*", "*.model")  # any one of them
INDEX = ".index.json"
SHARDS = f"{WEIGHTS}{INDEX}"
AGAIN = "fetch it again (a Git LFS pointer needs: git lfs pull)"
FLOATS = ("F64", "F32", "F16", "BF16")


CHOOSE = "choose an architecture from the table in models/README.md"
DECODER = "a decoder: a token sees only those before it, and its head reads the last one"
ENCODER_DECODER = "an encoder with a decoder: its head reads the decoder's state of the last token"

# model_type as in config.json: why it is refused. All others that Transformers has as a sequence
# classifier are tried on a few texts when they are loaded; with the last ones here the trial finds
# nothing wrong, or fails in a way that says little. models/README.md lists those that are tested.
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


def check_model(folder: Path, place: str) -> tuple[dict[str, Path], tuple[str, ...]]:
    """Return the files of a model folder that are fetched, and what the user should know of them.

    Args:
        folder: the model's folder.
        place: where the model is named, for the error.

    Raises:
        ModelError: if the configuration, the weights as safetensors files or the tokenizer is
            missing or damaged, the model needs code of its own, or an adapter belongs to it.
    """
    _refuse_adapter(folder, place)
    if not (folder / CONFIG).is_file():
        inside = sorted(path.parent for path in folder.glob(f"*/{WEIGHTS}"))
        fix = f"give the folder in it: {inside[0]}" if inside else "give a folder of Transformers"
        raise ModelError(f"{place}: holds no {CONFIG}", fix)
    settings = {CONFIG: _read_object(folder / CONFIG, place)}
    if (folder / TOKENIZER_CONFIG).is_file():
        settings[TOKENIZER_CONFIG] = _read_object(folder / TOKENIZER_CONFIG, place)
    _check_config(settings[CONFIG], place)
    if not (folder / WEIGHTS).is_file() and not (folder / SHARDS).is_file():
        # guard: no pickled weights -> return {}, ()
        raise ModelError(
            f"{place}: holds no {WEIGHTS} and no {SHARDS}; pickle weights are refused, since "
            "loading them can run code",
            "take a revision that has them, save the model with model.save_pretrained(folder), or "
            "convert it once: https://huggingface.co/spaces/safetensors/convert",
        )
    names = [WEIGHTS] if (folder / WEIGHTS).is_file() else _shards_of(folder, place)
    notices = [
        f"{name} names code of its own (auto_map), which is not run: Transformers knows this model"
        for name, content in settings.items()
        if "auto_map" in content
    ]
    _check_weights([folder / name for name in names], place)
    if not any(path.is_file() for pattern in VOCABULARIES for path in folder.glob(pattern)):
        raise ModelError(
            f"{place}: holds no tokenizer: none of {', '.join(VOCABULARIES)}",
            "save the tokenizer with the model: tokenizer.save_pretrained(folder)",
        )
    small = {path.name for pattern in MODEL_FILES for path in folder.glob(pattern)}
    if names != [WEIGHTS]:
        names = [SHARDS, *names]
    wanted = sorted({*names, *(name for name in small if not name.endswith(INDEX))})
    files = {name: folder / name for name in wanted if (folder / name).is_file()}
    return files, tuple(notices)


def _refuse_adapter(folder: Path, place: str) -> None:
    """Raise a ModelError if Transformers would load an adapter from the folder."""
    adapter = folder / ADAPTER_CONFIG
    if adapter.is_file():
        base = _read_object(adapter, place).get("base_model_name_or_path") or "see its model card"
        raise ModelError(
            f"{place}: holds an adapter ({ADAPTER_CONFIG}), which Transformers would load too",
            f"give the model that it was trained on ({printable(base)}), merge the adapter into it "
            f"with PEFT's merge_and_unload, or give a copy of the folder without {ADAPTER_CONFIG}",
        )


def _check_config(config: dict[str, Any], place: str) -> None:
    """Raise a ModelError for an architecture that is not known, or weights that are quantised."""
    refuse_unsupported(config, place)
    # guard: no code of a model
    if "auto_map" in config and config.get("model_type") not in CONFIG_MAPPING:
        raise ModelError(
            f"{place}: {CONFIG} has auto_map: the model needs code of its own",
            "choose a model that Transformers itself knows: code from a model folder is never run",
        )
    if "quantization_config" in config:
        raise ModelError(
            f"{place}: {CONFIG} has quantization_config: the weights are quantised",
            "choose the model as it was before its quantisation",
        )


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
        raise ModelError(f"{place}: {printable(kind)} is not supported: {reason}", CHOOSE)


def _read_object(path: Path, place: str) -> dict[str, Any]:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        return dict(content.items())
    except (ValueError, RecursionError, AttributeError) as error:
        what = f"{place}: {path.name}: not a JSON object: {printable(error)}"
        raise ModelError(what, AGAIN) from None


def _shards_of(folder: Path, place: str) -> list[str]:
    """Return the names of the files that the index of the weights lists.

    Raises:
        ModelError: if it is no index, or lists files elsewhere.
    """
    listed = _read_object(folder / SHARDS, place).get("weight_map")
    names = set(map(str, listed.values())) if isinstance(listed, dict) else set()
    if not names or not all(re.fullmatch(r"[\w.-]+\.safetensors", name) for name in names):
        raise ModelError(
            f"{place}: {SHARDS}: not an index of safetensors files in the same folder", AGAIN
        )
    return sorted(names)


def _check_weights(files: list[Path], place: str) -> None:
    """Raise a ModelError for weights that are missing, truncated or quantised, by their headers."""
    for path in files:
        try:
            with safe_open(path, framework="numpy") as file:
                types = {name: str(file.get_slice(name).get_dtype()) for name in file.keys()}  # noqa: SIM118  # no mapping
        except FileNotFoundError:
            raise ModelError(
                f"{place}: {path.name}, which {SHARDS} lists, is missing", "fetch it again"
            ) from None
        except SafetensorError as error:
            raise ModelError(
                f"{place}: {path.name} is not a complete safetensors file: {printable(error)}",
                AGAIN,
            ) from None
        for name, kind in sorted(types.items()):
            if name.endswith(".weight") and kind not in FLOATS:
                raise ModelError(
                    f"{place}: the weights are quantised: {printable(name)} is stored as {kind}",
                    "choose the model as it was before its quantisation",
                )


def max_length_of(tokenizer_config: dict[str, Any]) -> int | None:
    """Return `model_max_length` as a number of tokens, None where it states no limit.

    A number may be written as a text or with a fraction; zero and below state no limit.

    Raises:
        ValueError: if it is no number.
    """
    value = tokenizer_config.get("model_max_length")
    if value is None:
        return None
    try:
        number = min(float(str(value)), 1e30)  # as text, since true is no number
        return None if number < 1 else int(number)
    except ValueError:
        what = f"model_max_length: expected a number of tokens, got {value!r}"
        raise ValueError(what) from None
