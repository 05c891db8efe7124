"""Fetch a data set or a model from the Hugging Face Hub at one pinned revision.

The Hub's libraries read the environment when they are imported: `locate` sets it before it imports
this module.
"""

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import datasets  # slow: not before the Hub has answered
import huggingface_hub
from huggingface_hub import constants, errors

from stages.core.errors import HostError, printable
from stages.sources.catalogue import MODEL_FILES, WEIGHTS, Kind, place_of

SHARDS = "model-*-of-*.safetensors"


def fetch_hub_data(
    source: str, folder: Path, wanted: Sequence[str]
) -> tuple[dict[str, Path], tuple[str, ...] | None]:
    """Return the splits as Parquet files, and the names of integer labels if they are declared.

    Args:
        source: owner/name@revision.
        folder: where the files are written.
        wanted: the names of the splits that are used.

    Raises:
        HostError: if the Hub does not give it, or its files cannot be read as a table.
    """
    name, revision = source.split("@")
    print(f"fetching {source} ...", flush=True)
    with _one_line(source, "data"):
        _probe(name, revision, "dataset", "README.md")

        datasets.disable_progress_bars()
        # With hf:// the library does not read a local folder of that name. The cache is new, since
        # without the Hub the library would use any revision that it built before.
        address, cache = f"hf://datasets/{name}", str(folder / "cache")
        loaded = datasets.load_dataset(address, revision=revision, cache_dir=cache, token=_token())
    if ignored := sorted(set(loaded) - set(wanted)):
        print(f"{source}: ignored splits: {printable(', '.join(ignored))}", flush=True)
    splits = {split: folder / f"{split}.parquet" for split in wanted if split in loaded}
    for split, path in splits.items():
        loaded[split].to_parquet(str(path))
    features = next(iter(loaded.values())).features.values()
    declared = [tuple(kind.names) for kind in features if isinstance(kind, datasets.ClassLabel)]
    return splits, declared[0] if len(declared) == 1 else None


def fetch_hub_model(source: str) -> Path:
    """Return the folder of the Hub's cache that holds the model's files.

    Args:
        source: owner/name@revision.

    Raises:
        HostError: if the Hub does not give it.
    """
    name, revision = source.split("@")

    print(f"fetching {source} ...", flush=True)
    with _one_line(source, "models"):
        _probe(name, revision, "model", "config.json")
        return Path(
            huggingface_hub.snapshot_download(
                name,
                revision=revision,
                allow_patterns=[*MODEL_FILES, WEIGHTS, SHARDS],
                ignore_patterns=["*/*"],
                token=_token(),
            )
        )


def _probe(name: str, revision: str, kind: str, file: str) -> None:
    """Request one file's header, once: the libraries would retry a silent Hub for many minutes."""
    hooks = huggingface_hub.get_session().event_hooks["request"]
    if _add_timeouts not in hooks:
        hooks.append(_add_timeouts)
    if constants.HF_HUB_OFFLINE:
        return  # the cached files may suffice
    url = huggingface_hub.hf_hub_url(name, file, repo_type=kind, revision=revision)
    with suppress(errors.EntryNotFoundError):  # a data set may have no README.md
        huggingface_hub.get_hf_file_metadata(
            url, token=_token(), timeout=constants.HF_HUB_ETAG_TIMEOUT
        )


def _add_timeouts(request: Any) -> None:
    """Set a time-out for the requests that the library sends without one."""
    limits = request.extensions.get("timeout", {})
    request.extensions["timeout"] = {
        key: limits.get(key) or constants.HF_HUB_DOWNLOAD_TIMEOUT
        for key in ("connect", "read", "write", "pool")
    }


def _token() -> str | bool:
    """Return the environment's access token; False keeps the library from searching for one."""
    return os.environ.get("HF_TOKEN") or False


@contextmanager
def _one_line(source: str, kind: Kind) -> Iterator[None]:
    """Turn whatever the Hub's libraries raise into one line.

    Raises:
        HostError: with the libraries' message.
    """
    try:
        yield
    except Exception as error:
        why = printable(" ".join(str(error).split()) or type(error).__name__, 300)
        raise HostError(
            f"{place_of(kind)}: {source}: the Hub did not give it: {why}",
            "check the name, the revision and the network (for a private or gated one set "
            "HF_TOKEN), or save it as local files and give their path",
        ) from error
