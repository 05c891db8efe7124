"""A warning where the user's own data or model is no longer what was prepared or fetched."""

import json
import shutil
from pathlib import Path

import pytest

from stages.core import paths
from stages.core.params import DataParams
from stages.rows.prepared import model_change, source_change, warn_if_source_changed
from stages.sources.locate import locate_data
from tests.support.hub_server import REVISION
from tests.support.model_files import MODEL, safetensors, write_files
from tests.support.tiny import params_for, shipped


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def csv(content: str, name: str = "mine.csv") -> Path:
    path = Path(name)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(content, encoding="utf-8")
    return path


def params(source: str | None = None) -> DataParams:
    return params_for(source).data if source else shipped().data


def test_a_source_that_dvc_watches_or_fetches_is_not_compared() -> None:
    Path("data/raw").mkdir(parents=True)
    csv("text,label\na,x\n", "data/raw/mine.csv")
    assert source_change(params(source="data/raw/mine.csv"), "0") is None
    assert source_change(params(source="data/raw"), "0") is None
    assert source_change(params(), "0") is None
    assert source_change(params(source=f"owner/name@{'0' * 40}"), "0") is None


def test_a_link_out_of_the_watched_folder_is_compared() -> None:
    csv("text,label\na,x\n")
    Path("data/raw").mkdir(parents=True)
    Path("data/raw/mine.csv").symlink_to(Path("mine.csv").resolve())
    assert "has changed" in str(source_change(params(source="data/raw/mine.csv"), "0"))


def test_a_folder_that_changed_or_lost_a_split_is_reported() -> None:
    for split in ("train", "test"):
        csv(f"text,label\n{split},x\n", f"mine/{split}.csv")
    recorded = locate_data("mine", Path()).sha256
    assert source_change(params(source="mine"), recorded) is None
    csv("text,label\nother,x\n", "mine/test.csv")
    assert "has changed" in str(source_change(params(source="mine"), recorded))
    Path("mine/test.csv").unlink()
    assert "no longer exists" in str(source_change(params(source="mine"), recorded))


def prepared_from(recorded: object) -> None:
    csv("text,label\n")
    paths.DATA_SUMMARY.parent.mkdir()
    paths.DATA_SUMMARY.write_text(json.dumps(recorded), encoding="utf-8")


def warning(capsys: pytest.CaptureFixture[str]) -> str:
    warn_if_source_changed(params_for("mine.csv"))
    captured = capsys.readouterr()
    assert captured.out == ""
    return captured.err


def test_a_changed_source_is_one_line_of_warning(capsys: pytest.CaptureFixture[str]) -> None:
    prepared_from({"source_sha256": "0" * 64})
    line = warning(capsys)
    assert line.startswith("warning: mine.csv has changed since the data were prepared")
    assert "dvc repro -f prepare" in line
    assert line.count("\n") == 1


def test_an_unchanged_source_is_no_warning(capsys: pytest.CaptureFixture[str]) -> None:
    prepared_from({})
    recorded = locate_data("mine.csv", Path()).sha256
    paths.DATA_SUMMARY.write_text(json.dumps({"source_sha256": recorded}), encoding="utf-8")
    assert warning(capsys) == ""


@pytest.mark.parametrize("recorded", [[], {}, None, "no", {"source_sha256": None}])
def test_a_summary_that_records_no_source_is_no_warning(
    recorded: object, capsys: pytest.CaptureFixture[str]
) -> None:
    prepared_from(recorded)
    assert warning(capsys) == ""


def test_a_damaged_summary_stops_no_stage(capsys: pytest.CaptureFixture[str]) -> None:
    prepared_from({})
    paths.DATA_SUMMARY.write_text("<<<<<<< HEAD\n", encoding="utf-8")
    assert warning(capsys) == ""


def test_a_summary_that_cannot_be_read_stops_no_stage(capsys: pytest.CaptureFixture[str]) -> None:
    csv("text,label\n")
    paths.DATA_SUMMARY.mkdir(parents=True)
    assert warning(capsys) == ""


@pytest.fixture
def mine() -> Path:
    """Return a model folder, with its copy in models/base of the current folder."""
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
