"""Fixtures of the subcommands' tests."""

from __future__ import annotations

import pytest

from tests.support.command import Command


@pytest.fixture
def command(capsys: pytest.CaptureFixture[str]) -> Command:
    """Return `bert-lora` as a function of its arguments, run in the working folder."""
    return Command(capsys)
