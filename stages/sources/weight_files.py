"""The files of a model's weights: one safetensors file, or an index and its shards."""

from __future__ import annotations

import json
import re
import shlex
from dataclasses import dataclass
from pathlib import Path

from stages.core.errors import ModelError, printable

WEIGHTS = "model.safetensors"
SHARDS = "model.safetensors.index.json"
PICKLES = "pytorch_model*.bin"
CONVERT = "python -m stages.sources.to_safetensors"
AGAIN = "fetch it again (a Git LFS pointer needs: git lfs pull)"
WIDENED = {"F16": "fp16", "BF16": "bf16"}
QUANTISED = re.compile(r"F4|F[468]_\w+|[IU][48]")
OTHER_KINDS = {"tf_model.h5": "TensorFlow", "flax_model.msgpack": "Flax", "*.gguf": "GGUF"}


@dataclass(frozen=True)
class WeightFiles:
    """The files that hold the weights.

    Attributes:
        names: the file, or the index and its shards.
        notices: what the user should know of them, one line each.
    """

    names: list[str]
    notices: tuple[str, ...]


def check_weights(folder: Path, place: str, hub_id: str | None = None) -> WeightFiles:
    """Return the weight files of a model folder, after reading their headers.

    A header gives its file's size, so a truncated file is found at once.

    Args:
        folder: the model's folder.
        place: where the model is named, for the error.
        hub_id: owner/name@revision if the folder is of the Hub's cache.

    Raises:
        ModelError: if there are none as safetensors files, one is missing or damaged, or they are
            quantised.
    """
    if (folder / WEIGHTS).is_file():
        names, types = [WEIGHTS], _header(folder / WEIGHTS, place)
    elif (folder / SHARDS).is_file():
        names, types = _check_shards(folder, place)
    else:
        # guard: no pickled weights -> names, types = [], {}
        raise _no_safetensors(folder, place, hub_id)
    return WeightFiles(names, _about_types(types, place))


def shards_of(folder: Path, place: str) -> set[str]:
    """Return the names of the shards that the index lists; none without an index.

    Raises:
        ModelError: if it is no index.
    """
    index = folder / SHARDS
    return set(_weight_map(index, place).values()) if index.is_file() else set()


def _check_shards(folder: Path, place: str) -> tuple[list[str], dict[str, str]]:
    """Return the names of index and shards, and the type of each tensor."""
    listed = _weight_map(folder / SHARDS, place)
    names = sorted(set(listed.values()))
    if missing := [name for name in names if not (folder / name).is_file()]:
        raise ModelError(
            f"{place}: {SHARDS} lists {len(names)} files, of which {len(missing)} are missing: "
            f"{printable(', '.join(missing), 200)}",
            "fetch the missing files again",
        )
    types: dict[str, str] = {}
    for shard in names:
        held = _header(folder / shard, place)
        absent = [tensor for tensor, file in listed.items() if file == shard and tensor not in held]
        if absent:
            raise ModelError(
                f"{place}: {printable(shard)} lacks {len(absent)} tensors that {SHARDS} lists, "
                f"for example {printable(absent[0])}",
                "fetch the index and all of its files again, from the same revision",
            )
        types |= held
    return [SHARDS, *names], types


def _weight_map(index: Path, place: str) -> dict[str, str]:
    try:
        content = json.loads(index.read_text(encoding="utf-8"))
        listed = content["weight_map"]
        # Transformers reads the metadata too.
        sound = (
            bool(listed)
            and isinstance(content["metadata"], dict)
            and all(
                isinstance(file, str) and Path(file).name == file and file.endswith(".safetensors")
                for file in listed.values()
            )
        )
    except (ValueError, RecursionError, KeyError, TypeError, AttributeError):
        sound = False
    if not sound:
        raise ModelError(
            f"{place}: {SHARDS}: not an index of safetensors files in the same folder",
            "fetch the file again",
        )
    return dict(listed)


def _header(weights: Path, place: str) -> dict[str, str]:
    """Return the type of each tensor, as safetensors calls it, for example "F32"."""
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(weights, framework="numpy") as file:
            return {name: str(file.get_slice(name).get_dtype()) for name in file.keys()}  # noqa: SIM118  # no mapping
    except SafetensorError as error:
        raise ModelError(
            f"{place}: {weights.name} is not a complete safetensors file: {printable(error)}", AGAIN
        ) from None


def _about_types(types: dict[str, str], place: str) -> tuple[str, ...]:
    """Return what is said of the tensors' types."""
    weights = {name: kind for name, kind in types.items() if name.endswith(".weight")}
    for name, kind in sorted(weights.items()):
        if QUANTISED.fullmatch(kind):
            raise ModelError(
                f"{place}: the weights are quantised: {printable(name)} is stored as {kind}",
                "choose the model as it was before its quantisation",
            )
    halves = sorted({WIDENED[kind] for kind in types.values() if kind in WIDENED})
    if "F64" in types.values():
        return ("the weights are stored in fp64: rounded to fp32",)
    if halves:
        return (f"the weights are stored in {' and '.join(halves)}: widened to fp32, without loss",)
    return ()


def _no_safetensors(folder: Path, place: str, hub_id: str | None) -> ModelError:
    """Return the error for a folder without weights that can be read, with a remedy that works."""
    if hub_id:  # only safetensors files are fetched from there
        command, to = download_command(hub_id)
        return ModelError(
            f"{place}: the Hub has no {WEIGHTS} of it; pickle weights are refused, "
            "since loading them can run code",
            "take another revision, or if you trust the author, convert them once: "
            f"{command} && {CONVERT} {to}, then set model.source to {to}",
        )
    if any(folder.glob(PICKLES)):
        return ModelError(
            f"{place}: holds no {WEIGHTS}; pickle weights are refused, "
            "since loading them can run code",
            f"if you trust their author, convert them once: {CONVERT} {shlex.quote(str(folder))}",
        )
    others: list[str] = [
        f"{kind} ({path.name})"
        for pattern, kind in OTHER_KINDS.items()
        for path in sorted(folder.glob(pattern))[:1]
    ]
    others += [path.name for path in sorted(folder.glob("*.safetensors"))[:3]]
    found = f", only {', '.join(others)}" if others else ""
    return ModelError(
        f"{place}: holds no {WEIGHTS} and no {SHARDS}{printable(found, 200)}",
        "save the model with model.save_pretrained(folder), or give another folder",
    )


def download_command(hub_id: str) -> tuple[str, str]:
    """Return a command that downloads a Hub model into a folder, and that folder."""
    name, revision = hub_id.split("@")
    to = f"models/{name.split('/')[1]}"
    return f"hf download {name} --revision {revision} --local-dir {to}", to
