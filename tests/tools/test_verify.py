"""The bytes that dvc.lock names, checked file by file; what DVC says of changed inputs."""

from __future__ import annotations

import hashlib
import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from stages.core import paths
from stages.running.dvc_files import Recorded
from stages.tools.verify import changed_since, md5_of, object_of, source_faults, stored_faults
from tests.support.model_files import MODEL, write_files
from tests.support.tiny import changed, save_params, shipped

CACHE = Path("cache")


@pytest.fixture(autouse=True)
def _inside(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def cached(content: bytes, ending: str = "") -> str:
    """Put an object into the cache and return its name there."""
    md5 = hashlib.md5(content, usedforsecurity=False).hexdigest() + ending
    file = object_of(CACHE, md5)
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(content)
    return md5


@pytest.fixture
def folder() -> Recorded:
    """Return a folder of one file that workspace and cache hold alike."""
    path = Path("out/a.txt")
    path.parent.mkdir()
    path.write_bytes(b"content")
    listing = [{"md5": cached(b"content"), "relpath": "a.txt"}]
    return Recorded(Path("out"), "train", cached(json.dumps(listing).encode(), ".dir"), 7, True)


def found(*records: Recorded) -> list[str]:
    """Return what is wrong with the records."""
    return [what for what, _ in stored_faults(list(records), CACHE)]


def test_what_a_run_leaves_has_no_fault(folder: Recorded) -> None:
    assert found(folder) == []


def test_a_changed_a_missing_and_an_additional_file_are_named(folder: Recorded) -> None:
    Path("out/b.txt").touch()
    assert found(folder) == ["out/b.txt: dvc.lock names no such file"]
    Path("out/b.txt").unlink()
    Path("out/a.txt").write_bytes(b"other")
    assert found(folder) == ["out/a.txt: is not what dvc.lock names"]
    Path("out/a.txt").unlink()
    assert found(folder) == ["out/a.txt: missing"]


@pytest.mark.parametrize("ending", ["", ".dir"])
def test_a_damaged_and_a_missing_object_are_named(folder: Recorded, ending: str) -> None:
    md5 = folder.md5 if ending else str(md5_of(Path("out/a.txt")))
    file = object_of(CACHE, md5)
    file.write_bytes(b"damaged")
    assert found(folder) == [f"out: its object in the cache is damaged: {file}"]
    file.unlink()
    assert found(folder) == [f"out: its object in the cache is missing: {file}"]


def test_a_file_that_git_keeps_is_hashed_in_the_workspace() -> None:
    Path("base.json").write_bytes(b"{}")
    record = Recorded(Path("base.json"), "evaluate_base", str(md5_of(Path("base.json"))), 2, False)
    assert found(record) == []
    Path("base.json").write_bytes(b"[]")
    assert found(record) == ["base.json: is not what stage evaluate_base wrote"]


def test_objects_of_other_runs_are_hashed_too(folder: Recorded) -> None:
    other = object_of(CACHE, cached(b"of another commit"))
    assert found(folder) == []
    other.write_bytes(b"damaged")
    assert found(folder) == [f"{other}: an object of another run, damaged"]


@pytest.mark.parametrize(
    ("status", "expected"),
    [
        ({}, []),
        ([], []),
        ({"train": [{"changed outs": {"models/adapter": "modified"}}]}, []),
        ({"train": ["changed command"]}, ["changed command"]),
        ({"train": [{"changed deps": {"data/train.parquet": "modified"}}]}, ["data/train.parquet"]),
        (
            {"train": [{"changed deps": {"params.yaml": {"lora.r": "modified", "seed": "new"}}}]},
            ["params.yaml lora.r, params.yaml seed"],
        ),
    ],
)
def test_inputs_that_changed_since_a_run_are_named(status: Any, expected: list[str]) -> None:
    faults = list(changed_since(status))
    assert faults == [
        (f"stage train: has not run since a change of {names}", "run: dvc repro")
        for names in expected
    ]


def test_a_local_source_that_changed_is_named_and_one_that_is_gone_is_no_fault(
    capsys: pytest.CaptureFixture[str],
) -> None:
    mine = write_files(Path("mine"), MODEL)
    write_files(paths.BASE_MODEL, MODEL)
    Path("mine.csv").write_text("text,label\n", encoding="utf-8")
    save_params(changed(shipped(), model__source="mine", data__source="mine.csv"))
    paths.DATA_SUMMARY.parent.mkdir()
    sha256 = hashlib.sha256(b"text,label\n").hexdigest()
    paths.DATA_SUMMARY.write_text(json.dumps({"source_sha256": sha256}), encoding="utf-8")
    assert list(source_faults()) == []
    (mine / "config.json").write_bytes(b'{"model_type": "bert", "num_hidden_layers": 1}')
    Path("mine.csv").write_text("text,label\na,b\n", encoding="utf-8")
    data, model = source_faults()
    assert data[0] == "mine.csv has changed since the data were prepared"
    assert data[1].startswith("run `dvc repro -f prepare`")
    assert model == (
        "mine has changed since models/base was copied from it (config.json)",
        "run `dvc repro -f fetch_base`",
    )
    assert capsys.readouterr().out == ""
    shutil.rmtree(mine)
    Path("mine.csv").unlink()
    assert list(source_faults()) == []
    data_gone, model_gone = capsys.readouterr().out.splitlines()
    assert data_gone == "warning: mine.csv no longer exists; the prepared rows come from it"
    assert model_gone == "warning: mine no longer exists; models/base is a copy of it"
