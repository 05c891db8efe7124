"""dvc.yaml as it is read without DVC: which stage makes a file, and on which code it depends."""

from __future__ import annotations

from pathlib import Path

import pytest

from stages.core import paths
from stages.core.artefacts import code_of, maker_of, outputs
from stages.core.errors import HostError
from tests.support.tiny import ROOT

OWN = """
stages:
  first:
    cmd: python first.py
    outs: [out/a.csv, {out/folder: {cache: false}}]
    metrics: [{out/score.json: {cache: false}}]
  second:
    cmd: python second.py
    outs: [out/b.csv]
    plots: [out/plot.csv]
"""


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


@pytest.mark.parametrize(
    ("path", "stage"),
    [
        ("out/a.csv", "first"),
        ("out/folder", "first"),
        ("out/folder/deep/file.bin", "first"),
        ("out/score.json", "first"),
        ("out/b.csv", "second"),
        ("out/plot.csv", "second"),
        ("out", "first"),
        ("out/c.csv", None),
        ("out/folder-of-mine", None),
        ("elsewhere", None),
    ],
)
def test_the_maker_of_a_path_is_the_stage_that_writes_it(path: str, stage: str | None) -> None:
    paths.PIPELINE.write_text(OWN, encoding="utf-8")
    assert maker_of(Path(path)) == stage


def test_without_a_dvc_yaml_here_that_of_the_code_is_read() -> None:
    assert not paths.PIPELINE.exists()
    assert maker_of(paths.ADAPTER) == "train_lora"
    assert maker_of(paths.BASE_MODEL / "config.json") == "fetch_base"
    assert maker_of(Path("mine.csv")) is None


def test_outputs_say_whether_the_cache_takes_them() -> None:
    paths.PIPELINE.write_text(OWN, encoding="utf-8")
    assert outputs()["first"] == {
        Path("out/a.csv"): True,
        Path("out/folder"): False,
        Path("out/score.json"): False,
    }
    assert "third" not in outputs()


def test_the_code_of_a_stage_is_that_of_the_repository() -> None:
    files = code_of("fetch_base")
    assert files["stages/fetch_base.py"] == ROOT / "stages/fetch_base.py"
    assert files["stages/sources/catalogue.yaml"] == ROOT / "stages/sources/catalogue.yaml"
    assert all(path.is_file() for path in files.values())
    assert not any("__pycache__" in name or "/tools/" in name for name in files)


@pytest.mark.parametrize("content", [b"stages: [", b"\xff", b"a: b: c"])
def test_a_damaged_dvc_yaml_is_named(content: bytes) -> None:
    paths.PIPELINE.write_bytes(content)
    with pytest.raises(HostError, match=r"dvc\.yaml: cannot be read: .*git diff dvc\.yaml"):
        maker_of(paths.ADAPTER)
