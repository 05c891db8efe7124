"""Pickled weights become safetensors, tensor by tensor; anything but tensors is refused."""

import os
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from stages.core.errors import ModelError, ParamsError
from stages.sources.to_safetensors import to_safetensors


def test_shards_of_pickles_become_one_file(tmp_path: Path) -> None:
    torch.save({"a": torch.ones(1)}, tmp_path / "pytorch_model-00001-of-00002.bin")
    torch.save({"b": torch.zeros(2)}, tmp_path / "pytorch_model-00002-of-00002.bin")
    assert to_safetensors(tmp_path) == 2
    found = load_file(tmp_path / "model.safetensors")
    assert {name: tensor.tolist() for name, tensor in found.items()} == {"a": [1.0], "b": [0, 0]}


def test_one_file_counts_before_shards(tmp_path: Path) -> None:
    torch.save({"a": torch.ones(1)}, tmp_path / "pytorch_model.bin")
    torch.save({"b": torch.ones(1)}, tmp_path / "pytorch_model-00001-of-00001.bin")
    to_safetensors(tmp_path)
    assert list(load_file(tmp_path / "model.safetensors")) == ["a"]


class Evil:
    """Makes a folder when it is unpickled."""

    def __reduce__(self) -> tuple[Any, ...]:
        return (os.mkdir, ("canary",))


@pytest.mark.parametrize(
    "content",
    [Evil(), {"state_dict": {"a": torch.ones(1)}}, {"epoch": 3}, [torch.ones(1)]],
)
def test_what_holds_more_than_tensors_is_refused(
    content: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    torch.save(content, tmp_path / "pytorch_model.bin")
    with pytest.raises(ModelError, match="not a file of tensors alone"):
        to_safetensors(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["pytorch_model.bin"]


def test_a_damaged_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "pytorch_model.bin").write_bytes(b"version https://git-lfs")
    with pytest.raises(ModelError, match="not a file of tensors alone"):
        to_safetensors(tmp_path)


def test_nothing_is_overwritten_and_nothing_to_convert_is_said(tmp_path: Path) -> None:
    with pytest.raises(ParamsError, match="holds no pytorch_model"):
        to_safetensors(tmp_path)
    torch.save({"a": torch.ones(1)}, tmp_path / "pytorch_model.bin")
    (tmp_path / "model.safetensors").write_bytes(b"mine")
    with pytest.raises(ParamsError, match="exists"):
        to_safetensors(tmp_path)
    assert (tmp_path / "model.safetensors").read_bytes() == b"mine"
