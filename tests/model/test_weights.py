"""Weights read from safetensors files."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from stages.core.errors import ModelError
from stages.model.load import read_weights


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_tensor_that_is_not_finite_is_refused(tmp_path: Path, value: float) -> None:
    file = tmp_path / "x.safetensors"
    save_file({"fine": torch.zeros(2), "sick": torch.tensor([1.0, value])}, file)
    with pytest.raises(ModelError, match=r"sick holds a value that is not finite.* Fix: mend it"):
        read_weights(file, "mend it")
