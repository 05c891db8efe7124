"""Fetch a data set or a model from the Hugging Face Hub at one pinned revision."""

from __future__ import annotations

import os
import re
from contextlib import suppress
from pathlib import Path
from typing import Any

from stages.core.artefacts import sha256_of
from stages.core.errors import DataError, ModelError, UserError, printable
from stages.sources.catalogue import Kind
from stages.sources.model_folder import MODEL_FILES, SHARDS

SPLITS = ("train", "validation", "test")


def fetch_hub_data(source: str, folder: Path) -> tuple[dict[str, Path], tuple[str, ...] | None]:
    """Return the splits as Parquet files, and the names of integer labels if they are declared.

    Args:
        source: owner/name@revision.
        folder: where the files are written.

    Raises:
        ParamsError: if the Hub has no such data set or revision, or denies access to it.
        HostError: if the Hub cannot be reached.
        DataError: if its files cannot be read as one table per split.
    """
    name, revision = source.split("@")
    set_up()
    import datasets

    datasets.disable_progress_bars()
    print(f"fetching {source} ...", flush=True)
    try:
        _probe(name, revision, "dataset", "README.md")
        # With hf:// the library does not read a local folder of that name. The cache is new, since
        # without the Hub the library would use any revision that it built before.
        address, cache = f"hf://datasets/{name}", str(folder / "cache")
        loaded = datasets.load_dataset(address, revision=revision, cache_dir=cache, token=_token())
    except Exception as error:
        raise _explained(error, source, "data", DataError) from None
    if ignored := sorted(set(loaded) - set(SPLITS)):
        print(f"{source}: ignored splits: {printable(', '.join(ignored))}", flush=True)
    splits = {split: folder / f"{split}.parquet" for split in SPLITS if split in loaded}
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
        ParamsError: if the Hub has no such model or revision, or denies access to it.
        HostError: if the Hub cannot be reached.
        ModelError: if it has no config.json, or a cached file is damaged.
    """
    name, revision = source.split("@")
    set_up()
    import huggingface_hub

    print(f"fetching {source} ...", flush=True)
    try:
        _probe(name, revision, "model", "config.json")
        folder = huggingface_hub.snapshot_download(
            name, revision=revision, allow_patterns=[*MODEL_FILES, SHARDS], token=_token()
        )
    except Exception as error:
        raise _explained(error, source, "models", ModelError) from None
    _check_cache(Path(folder))
    return Path(folder)


def _probe(name: str, revision: str, kind: str, file: str) -> None:
    """Request one file's header, once: the libraries would retry a silent Hub for many minutes."""
    from huggingface_hub import constants, errors, get_hf_file_metadata, hf_hub_url

    if constants.HF_HUB_OFFLINE:
        return  # the cached files may suffice
    url = hf_hub_url(name, file, repo_type=kind, revision=revision)
    with suppress(errors.EntryNotFoundError):  # a data set may have no README.md
        get_hf_file_metadata(url, token=_token(), timeout=constants.HF_HUB_ETAG_TIMEOUT)


def _check_cache(folder: Path) -> None:
    """Check the large files of the cache, whose names are their sha256."""
    for path in sorted(folder.glob("*")):
        name = path.resolve().name
        if re.fullmatch("[0-9a-f]{64}", name) and (got := sha256_of(path)) != name:
            raise ModelError(
                f"{path.name} in the Hub's cache: expected sha256 {name}, got {got}",
                f"delete {path.resolve()} and run again",
            )


def _token() -> str | bool:
    """Return the environment's access token; False keeps the library from searching for one."""
    return os.environ.get("HF_TOKEN") or False


def set_up() -> None:
    """Limit the time of every request, and silence the libraries; they read this when imported."""
    for name, value in {
        "HF_HUB_ETAG_TIMEOUT": "20",
        "HF_HUB_DOWNLOAD_TIMEOUT": "20",
        "HF_HUB_DISABLE_XET": "1",  # plain HTTP respects these time-outs and the proxy settings
        "HF_HUB_DISABLE_PROGRESS_BARS": "1",
        "HF_HUB_DISABLE_TELEMETRY": "1",
        "HF_HUB_VERBOSITY": "error",
    }.items():
        os.environ.setdefault(name, value)
    import huggingface_hub
    from huggingface_hub import constants

    def add_timeouts(request: Any) -> None:
        """Set a time-out for the requests that the library sends without one."""
        limits = request.extensions.get("timeout", {})
        request.extensions["timeout"] = {
            key: limits.get(key) or constants.HF_HUB_DOWNLOAD_TIMEOUT
            for key in ("connect", "read", "write", "pool")
        }

    huggingface_hub.get_session().event_hooks["request"].append(add_timeouts)


def _explained(error: Exception, source: str, kind: Kind, fault: type[UserError]) -> Exception:
    """Return the user's view of an error; see `hub_errors.explained`."""
    from stages.sources.hub_errors import explained

    return explained(error, source, kind, fault)
