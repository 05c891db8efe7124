"""What an error of the Hub's libraries means to the user.

Imported only after an error: the Hub's libraries read the environment when they are imported.
"""

from __future__ import annotations

import errno

from huggingface_hub.errors import (
    EntryNotFoundError,
    HfHubHTTPError,
    LocalEntryNotFoundError,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)
from huggingface_hub.utils import httpx  # type: ignore[attr-defined]  # the HTTP library it uses

from stages.core.errors import HostError, ParamsError, UserError, printable
from stages.sources.catalogue import Kind, place_of

Classes = tuple[type[BaseException], ...]

MISSING: Classes = (RepositoryNotFoundError, RevisionNotFoundError)
UNREACHABLE: Classes = (
    httpx.TransportError,
    ConnectionError,
    TimeoutError,
    LocalEntryNotFoundError,  # not cached, and the Hub did not answer
)
UNUSABLE: Classes = (EntryNotFoundError, FileNotFoundError, ValueError, RuntimeError)
DISK = (errno.ENOSPC, errno.EDQUOT, errno.EACCES, errno.EPERM, errno.EROFS)


def explained(error: Exception, source: str, kind: Kind, fault: type[UserError]) -> Exception:
    """Return the user's view of an error of the Hub's libraries, or a bug as it is.

    All errors in the chain of causes are examined, since the libraries wrap each other's errors.

    Args:
        error: what a library raised.
        source: owner/name@revision.
        kind: models or data.
        fault: the error for a source whose files cannot be used.
    """
    causes = causes_of(error)
    missing, unusable = _classes_of(kind)
    why = f"{place_of(kind)}: {source}: {printable(error, limit=200)}"
    if any(isinstance(cause, missing) for cause in causes):
        return ParamsError(
            f"{place_of(kind)}: the Hub has no {source}, or does not give it to this user",
            "check the name and the revision; for a private or gated one set HF_TOKEN",
        )
    for cause in causes:
        if isinstance(cause, OSError) and cause.errno in DISK:
            return cause
    if any(isinstance(cause, UNREACHABLE) or _is_refusal(cause) for cause in causes):
        return HostError(
            f"the Hub could not be reached: {why}",
            "check the network and run again, or use a packaged name of the catalogue or a path",
        )
    if any(isinstance(cause, unusable) for cause in causes):
        return fault(why, "save what you need of it as local files and give their path")
    return error


def causes_of(error: BaseException) -> list[BaseException]:
    """Return an error and the chain of errors that led to it, the first cause last."""
    causes = [error]
    while cause := causes[-1].__cause__ or causes[-1].__context__:
        causes.append(cause)
    return causes


def _classes_of(kind: Kind) -> tuple[Classes, Classes]:
    """Return the classes for a missing and for an unusable source."""
    if kind == "models":
        return MISSING, UNUSABLE
    from datasets.exceptions import DatasetNotFoundError, DatasetsError  # slow, so only for data

    return (*MISSING, DatasetNotFoundError), (*UNUSABLE, DatasetsError)


def _is_refusal(cause: BaseException) -> bool:
    """Return whether the Hub answered that it cannot serve the request now."""
    if not isinstance(cause, (HfHubHTTPError, httpx.HTTPStatusError)):
        return False
    status = int(cause.response.status_code)
    return status == httpx.codes.TOO_MANY_REQUESTS or status >= httpx.codes.INTERNAL_SERVER_ERROR
