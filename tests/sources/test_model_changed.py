"""A local model folder that changed since it was copied to models/base."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from stages.core import paths
from stages.rows.source_changed import model_change
from tests.support.hub_server import REVISION
from tests.support.model_files import MODEL, safetensors, write_files


@pytest.fixture
def mine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return a model folder, with its copy in models/base of the current folder."""
    monkeypatch.chdir(tmp_path)
    write_files(paths.BASE_MODEL, MODEL)
    return write_files(Path("mine"), MODEL)


def test_an_unchanged_folder_is_no_change(mine: Path) -> None:
    (mine / "README.md").write_text("not fetched")
    assert model_change(str(mine)) is None
    assert model_change(str(mine.resolve())) is None
    assert model_change(str(paths.BASE_MODEL)) is None


def test_a_source_that_is_pinned_cannot_change(mine: Path) -> None:
    assert mine.is_dir()
    assert model_change("all-MiniLM-L6-v2") is None
    assert model_change(f"owner/name@{REVISION}") is None


def test_other_weights_of_the_same_size_are_named(mine: Path) -> None:
    content = MODEL["model.safetensors"]
    (mine / "model.safetensors").write_bytes(content[:-1] + b"\x01")
    change = str(model_change(str(mine)))
    assert change.startswith("mine has changed since models/base was copied from it (model.safet")
    assert change.endswith("run `dvc repro -f fetch_base`")


def test_a_file_that_came_or_went_is_named(mine: Path) -> None:
    (mine / "tokenizer.json").write_bytes(b"{}")
    (mine / "tokenizer_config.json").unlink()
    assert "(tokenizer.json, tokenizer_config.json)" in str(model_change(str(mine)))


def test_a_folder_that_is_gone_or_can_no_longer_be_used_is_named(mine: Path) -> None:
    (mine / "model.safetensors").write_bytes(safetensors({"a.weight": "F32"})[:-1])
    assert "not a complete safetensors file" in str(model_change(str(mine)))
    shutil.rmtree(mine)
    assert model_change(str(mine)) == "mine no longer exists; models/base is a copy of it"


def test_without_a_copy_there_is_nothing_to_compare(mine: Path) -> None:
    shutil.rmtree(paths.BASE_MODEL)
    assert model_change(str(mine)) is None
