"""What the benchmark's tests share: the setting of a tiny run."""

from __future__ import annotations

from pathlib import Path

import pytest

from stages.core import paths
from stages.core.params import Params
from stages.model.device import set_up
from stages.rows import prepared
from stages.tools.benchmark.setting import Setting


@pytest.fixture
def setting(project: Path, params: Params) -> Setting:
    """Return what the contenders share, in a copy of the finished run."""
    assert Path.cwd() == project
    labels = prepared.read_labels()
    train = prepared.read_split(paths.TRAIN, labels)
    held_out = prepared.read_split(paths.VALIDATION, labels)
    return Setting(params, set_up(params.compute), labels, train, held_out)
