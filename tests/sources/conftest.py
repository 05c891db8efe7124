"""Fixtures of the tests of sources."""

from pathlib import Path

import pytest


@pytest.fixture
def temp(tmp_path: Path) -> Path:
    """Return an empty folder to fetch into."""
    folder = tmp_path / "fetched"
    folder.mkdir()
    return folder
