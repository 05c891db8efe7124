"""The files of a model folder that are fetched, and what makes such a folder safe and complete."""

from __future__ import annotations

import json
import shlex
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from stages.core.errors import ModelError, printable
from stages.sources.architectures import refuse_unsupported
from stages.sources.tokenizer_files import (
    TOKENIZER_CONFIG,
    TOKENIZER_EXTRAS,
    check_tokenizer_config,
    tokenizer_of,
)
from stages.sources.weight_files import (
    SHARDS,
    WEIGHTS,
    check_weights,
    download_command,
    shards_of,
)

CONFIG = "config.json"
ADAPTER_CONFIG = "adapter_config.json"
# The small files that decide which others are read.
DECIDING_FILES = (CONFIG, TOKENIZER_CONFIG, ADAPTER_CONFIG, SHARDS)


@dataclass(frozen=True)
class ModelFolder:
    """The part of a model folder that Transformers reads.

    Attributes:
        files: the files by name.
        notices: what the user should know of it, one line each.
    """

    files: dict[str, Path]
    notices: tuple[str, ...]


def check_model(folder: Path, place: str, hub_id: str | None = None) -> ModelFolder:
    """Return the files of a model folder that Transformers reads; the others are left alone.

    Args:
        folder: the model's folder.
        place: where the model is named, for the error.
        hub_id: owner/name@revision if the folder is of the Hub's cache.

    Raises:
        ModelError: if the configuration, the weights as safetensors files or the tokenizer is
            missing or damaged, the model needs code of its own, or an adapter belongs to it.
    """
    _refuse_adapter(folder, place, hub_id)
    if not (folder / CONFIG).is_file():
        inside = sorted(path.parent for path in folder.glob(f"*/{WEIGHTS}"))
        fix = f"give the folder in it: {inside[0]}" if inside else "give a folder of Transformers"
        raise ModelError(f"{place}: holds no {CONFIG}", fix)
    config = _read_object(folder / CONFIG, place)
    refuse_unsupported(config, place)
    _check_config(config, place)
    weights = check_weights(folder, place, hub_id)
    tokenizer_config = _tokenizer_config(folder, place)
    notices = [*_check_code(config, tokenizer_config, place), *weights.notices]
    check_tokenizer_config(tokenizer_config, place)
    tokenizer = tokenizer_of(config, tokenizer_config)
    tokenizer.check(folder, place)
    names = {CONFIG, *weights.names, *tokenizer.names, *TOKENIZER_EXTRAS}
    files = {name: folder / name for name in sorted(names) if (folder / name).is_file()}
    return ModelFolder(files, tuple(notices))


def wanted_files(folder: Path, place: str) -> list[str]:
    """Return the names that a model may need, from its DECIDING_FILES alone.

    Raises:
        ModelError: if one of them is damaged.
    """
    config = _read_object(folder / CONFIG, place) if (folder / CONFIG).is_file() else {}
    refuse_unsupported(config, place)
    tokenizer = tokenizer_of(config, _tokenizer_config(folder, place))
    return sorted({WEIGHTS, *shards_of(folder, place), *tokenizer.names, *TOKENIZER_EXTRAS})


def _refuse_adapter(folder: Path, place: str, hub_id: str | None) -> None:
    """Raise a ModelError if Transformers would load an adapter from the folder."""
    adapter = folder / ADAPTER_CONFIG
    if not adapter.is_file():
        return
    if not (folder / CONFIG).is_file():
        base = _read_object(adapter, place).get("base_model_name_or_path")
        raise ModelError(
            f"{place}: holds an adapter ({ADAPTER_CONFIG}), not a model",
            f"give the model that it was trained on: {printable(base or 'see its model card')}",
        )
    if hub_id:
        command, to = download_command(hub_id)
        without = f"{command} --exclude 'adapter_*', then set model.source to {to}"
    else:
        without = f"mv {shlex.quote(str(adapter))} {shlex.quote(str(adapter))}.unused"
    raise ModelError(
        f"{place}: an adapter lies beside the model ({ADAPTER_CONFIG}), and Transformers would "
        "load both",
        "merge the adapter into the weights with PEFT's merge_and_unload, or use the model "
        f"without it: {without}",
    )


def _check_config(config: dict[str, Any], place: str) -> None:
    """Raise a ModelError if the weights are not plain numbers in the usual files."""
    if "quantization_config" in config:
        raise ModelError(
            f"{place}: {CONFIG} has quantization_config: the weights are quantised",
            "choose the model as it was before its quantisation",
        )
    if config.get("transformers_weights", WEIGHTS) not in (None, WEIGHTS, SHARDS):
        raise ModelError(
            f"{place}: {CONFIG} names other weights than {WEIGHTS} (transformers_weights)",
            f"rename that file to {WEIGHTS}, and remove the line",
        )


def _tokenizer_config(folder: Path, place: str) -> dict[str, Any]:
    path = folder / TOKENIZER_CONFIG
    return _read_object(path, place) if path.is_file() else {}


def _read_object(path: Path, place: str) -> dict[str, Any]:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise ModelError(
            f"{place}: {path.name}: not valid JSON: {printable(error)}", "fetch the file again"
        ) from None
    if not isinstance(content, dict):
        raise ModelError(f"{place}: {path.name}: not a JSON object", "fetch the file again")
    return content


def _check_code(config: dict[str, Any], tokenizer_config: dict[str, Any], place: str) -> list[str]:
    """Return a notice for each file that names code of its own, which is not run.

    Raises:
        ModelError: if Transformers has no code of its own for the model or its tokenizer.
    """
    notices = []
    known = {
        CONFIG: (config, model_type_known(config)),
        TOKENIZER_CONFIG: (
            tokenizer_config,
            tokenizer_of(config, tokenizer_config).class_known,
        ),
    }
    for name, (content, is_known) in known.items():
        if "auto_map" in content and not is_known:  # guard: no code of a model
            raise ModelError(
                f"{place}: {name} has auto_map: the model needs code of its own",
                "choose a model that Transformers itself knows: "
                "code from a model folder is never run",
            )
        if "auto_map" in content:
            notices.append(
                f"{name} names code of its own (auto_map), which is not run: "
                "Transformers knows this model"
            )
    return notices


def model_type_known(config: dict[str, Any]) -> bool:
    """Return whether Transformers itself has the architecture of a config.json."""
    from transformers.models.auto.auto_mappings import CONFIG_MAPPING_NAMES

    return config.get("model_type") in CONFIG_MAPPING_NAMES
