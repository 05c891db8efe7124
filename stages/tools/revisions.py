"""Read what a revision recorded: a commit, a tag, a branch, an experiment, or the workspace."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING

from stages.core import paths
from stages.core.artefacts import remake, require
from stages.core.errors import HostError, ParamsError, printable
from stages.core.params import Params, parse_params
from stages.scoring.predictions import read_predictions

if TYPE_CHECKING:  # heavy libraries are imported once the options have been checked
    import pandas as pd

WORKSPACE = "workspace"


@dataclass(frozen=True)
class Run:
    """What an experiment recorded: its params, its precision, the predictions of both models."""

    params: Params
    precision: str
    base: pd.DataFrame
    adapter: pd.DataFrame


def predictions_of(revision: str, path: Path) -> pd.DataFrame:
    """Return the predictions that a revision recorded under `path`.

    Raises:
        ParamsError: if there is no such revision.
        HostError: if it has no such file, or its content is neither in the cache nor in a remote.
        DataError, ModelError: if the file is damaged, see `read_predictions`.
    """
    name = f"{printable(revision)}: {path}"
    fix = remake(path)
    if revision == WORKSPACE:
        return read_predictions(require(path), name, fix)
    return read_predictions(BytesIO(content_of(revision, path)), name, fix)


def content_of(revision: str, path: Path) -> bytes:
    """Return the bytes of a file of a revision, tracked by git or by DVC.

    Raises:
        ParamsError: if there is no such revision.
        HostError: if it records no such file, or the content is neither in the cache nor in a
            remote.
    """
    from dvc.api import DVCFileSystem
    from dvc.exceptions import DvcException
    from dvc.scm import RevError

    if not revision.strip():  # an unset variable; DVC would take it for the workspace
        raise ParamsError("a revision is empty", "name a commit, tag, branch or experiment")
    try:
        with quiet():
            files = DVCFileSystem(".", rev=revision)
            known = files.info(path.as_posix())  # `exists` would hide an unknown revision
            if "md5" in known or "dvc_info" not in known:  # DVC has run it, or git keeps it
                return bytes(files.read_bytes(path.as_posix()))
    except (RevError, AttributeError):  # the latter for HEAD:a/file and other git syntax
        raise ParamsError(
            f"{printable(revision)}: no such commit, tag, branch or experiment",
            "see: git log --oneline, dvc exp list --all-commits",
        ) from None
    except (OSError, DvcException) as error:
        raise HostError(
            f"{printable(revision)}: {path} is neither in git nor in the DVC cache nor in a remote",
            "fetch it: dvc fetch --all-commits, or make it there: git checkout (of an experiment: "
            "dvc exp apply), then dvc repro",
        ) from error
    raise HostError(
        f"{printable(revision)}: its dvc.lock records no {path}",
        "name a revision that ran, or run dvc repro there and commit dvc.lock",
    )


def read_run(name: str) -> Run:
    """Return what an experiment recorded.

    Raises:
        HostError: if its results are not available, or its manifest records no precision.
    """
    return Run(
        parse_params(content_of(name, paths.PARAMS).decode(), paths.PARAMS),
        precision_of(name),
        predictions_of(name, paths.BASE_PREDICTIONS),
        predictions_of(name, paths.ADAPTER_PREDICTIONS),
    )


def precision_of(revision: str) -> str:
    """Return the precision that a revision's adapter was trained in, as its manifest has it.

    Raises:
        HostError: if the manifest is not available, or does not record the precision.
    """
    try:
        manifest = json.loads(content_of(revision, paths.ADAPTER_MANIFEST))
        return str(manifest["precision"])
    except (ValueError, KeyError, TypeError):
        raise HostError(
            f"{printable(revision)}: {paths.ADAPTER_MANIFEST}: records no precision",
            "run it again with the present code",
        ) from None


@contextmanager
def quiet() -> Iterator[None]:
    """Silence DVC's own log lines."""
    logger = logging.getLogger("dvc")
    level = logger.level
    logger.setLevel(logging.CRITICAL)
    try:
        yield
    finally:
        logger.setLevel(level)
