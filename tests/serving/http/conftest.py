"""Fixtures: an application on a scorer that needs no model, and its client."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from starlette.testclient import TestClient

from stages.serving.http.api import make_app
from stages.serving.http.service import Service
from tests.support.server import word_service


@pytest.fixture
def service() -> Iterator[Service]:
    """Return a service with small limits."""
    made = word_service(body_bytes=4000, texts=8, characters=200, waiting=16, batch=4)
    yield made
    made.batcher.close(timeout=10)


@pytest.fixture
def client(service: Service) -> TestClient:
    """Return a client of its application."""
    return TestClient(make_app(service))
