"""Read what a revision recorded: a commit, a tag, a branch, an experiment, or the workspace."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING

from stages.shared import paths
from stages.shared.artefacts import require
from stages.shared.errors import HostError, ParamsError, printable
from stages.shared.predictions import read_predictions

if TYPE_CHECKING:  # heavy libraries are imported once the options are known to be right
    import pandas as pd

WORKSPACE = "workspace"


def predictions_of(revision: str, path: Path) -> pd.DataFrame:
    """Return the predictions that a revision recorded under `path`.

    Raises:
        ParamsError: if there is no such revision.
        HostError: if it has no such file, or its content lies neither in the cache nor in a remote.
        DataError, ModelError: if the file is damaged, see `read_predictions`.
    """
    name = f"{printable(revision)}: {path}"
    fix = f"make it again: dvc repro -f {paths.MADE_BY[path]}"
    if revision == WORKSPACE:
        return read_predictions(require(path), name, fix)
    return read_predictions(BytesIO(content_of(revision, path)), name, fix)


def content_of(revision: str, path: Path) -> bytes:
    """Return the bytes of a file of a revision, tracked by git or by DVC.

    Raises:
        ParamsError: if there is no such revision.
        HostError: if it has no such file, or its content lies neither in the cache nor in a remote.
    """
    from dvc.api import DVCFileSystem
    from dvc.exceptions import DvcException
    from dvc.scm import RevError

    shown = printable(revision)
    try:
        with _quiet():
            files = DVCFileSystem(".", rev=revision)
            files.info(path.as_posix())  # `exists` would hide that there is no such revision
            content: bytes = files.read_bytes(path.as_posix())
            return content
    except RevError:
        raise ParamsError(
            f"{shown}: no such commit, tag, branch or experiment",
            "see: git log --oneline, dvc exp list --all-commits",
        ) from None
    except (OSError, DvcException) as error:
        raise HostError(
            f"{shown}: {path} lies neither in git nor in the DVC cache nor in a remote",
            f"fetch it: dvc fetch --all-commits, or make it: dvc exp apply {shown}, then dvc repro",
        ) from error


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep DVC's own log lines from standing between ours."""
    logger = logging.getLogger("dvc")
    level = logger.level
    logger.setLevel(logging.CRITICAL)
    try:
        yield
    finally:
        logger.setLevel(level)
