"""Errors of the Hub's libraries are told apart by class, anywhere in the chain of causes."""

from __future__ import annotations

import errno

import pytest
from datasets.exceptions import DatasetNotFoundError, DatasetsError
from huggingface_hub.errors import (
    EntryNotFoundError,
    GatedRepoError,
    HfHubHTTPError,
    LocalEntryNotFoundError,
    OfflineModeIsEnabled,
    RevisionNotFoundError,
)
from huggingface_hub.utils import httpx  # type: ignore[attr-defined]  # the HTTP library it uses

from stages.core.errors import DataError, HostError, ParamsError
from stages.sources.catalogue import Kind
from stages.sources.hub_errors import explained
from tests.support.hub_server import SOURCE


def response(status: int) -> httpx.Response:
    return httpx.Response(status, request=httpx.Request("GET", "http://localhost"))


def answered(status: int) -> HfHubHTTPError:
    return HfHubHTTPError("no", response=response(status))


def wrapped(cause: Exception, error: Exception) -> Exception:
    """Return `error` as it is raised from `cause`."""
    error.__cause__ = cause
    return error


@pytest.mark.parametrize(
    "error",
    [
        GatedRepoError("no", response=response(403)),
        RevisionNotFoundError("no", response=response(404)),
        DatasetNotFoundError("no"),
        wrapped(RevisionNotFoundError("no", response=response(404)), RuntimeError("wrapped")),
    ],
)
def test_what_the_hub_does_not_give_is_a_fault_of_the_params(error: Exception) -> None:
    found = explained(error, SOURCE, "data", DataError)
    assert isinstance(found, ParamsError)
    assert "HF_TOKEN" in str(found)


@pytest.mark.parametrize("kind", ["data", "models"])
@pytest.mark.parametrize(
    "error",
    [
        httpx.ConnectError("no"),
        httpx.ReadTimeout("no"),
        ConnectionError("no"),
        TimeoutError("no"),
        OfflineModeIsEnabled("no"),
        LocalEntryNotFoundError("no"),
        answered(429),
        answered(500),
        wrapped(answered(503), ValueError("wrapped")),
        wrapped(httpx.ConnectError("no"), FileNotFoundError("wrapped")),
    ],
)
def test_a_hub_that_does_not_answer_is_a_fault_of_the_environment(
    error: Exception, kind: Kind
) -> None:
    found = explained(error, SOURCE, kind, DataError)
    assert isinstance(found, HostError)
    assert "the Hub could not be reached" in str(found)


@pytest.mark.parametrize(
    "error",
    [DatasetsError("no"), EntryNotFoundError("no"), FileNotFoundError("no"), ValueError("no")],
)
def test_files_that_cannot_be_used_are_the_fault_that_is_handed_in(error: Exception) -> None:
    found = explained(error, SOURCE, "data", DataError)
    assert type(found) is DataError
    assert SOURCE in str(found)


def test_a_full_disk_is_not_blamed_on_the_hub() -> None:
    full = OSError(errno.ENOSPC, "No space left on device")
    assert explained(wrapped(full, RuntimeError("x")), SOURCE, "data", DataError) is full


def test_a_bug_stays_as_it_is() -> None:
    error = KeyError("a bug")
    assert explained(error, SOURCE, "data", DataError) is error
