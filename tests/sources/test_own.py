"""The user's own sources: a warning where data or model have changed since a stage read them."""

import json
import shutil
from pathlib import Path

import pytest

from stages.core import paths
from stages.core.params import DataParams
from stages.sources.locate import locate_data
from stages.sources.own import model_change, source_change, warn_if_changed
from tests.support.hub_server import REVISION
from tests.support.model_files import MODEL, write_files
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
    csv("text,label\na,x\n", "data/raw/mine.csv")
    for source in ("data/raw/mine.csv", "data/raw", None, f"owner/name@{'0' * 40}"):
        assert source_change(params(source), "0") is None
    csv("text,label\na,x\n")
    Path("data/raw/link.csv").symlink_to(Path("mine.csv").resolve())
    assert "has changed" in str(source_change(params("data/raw/link.csv"), "0"))
    for split in ("train", "test"):
        csv(f"text,label\n{split},x\n", f"mine/{split}.csv")
    assert source_change(params("mine"), locate_data("mine", Path()).sha256) is None
    Path("mine/test.csv").unlink()
    assert "no longer exists" in str(source_change(params("mine"), "0"))


@pytest.mark.parametrize("recorded", ["[]", "{}", '{"source_sha256": null}', "<<<<"])
def test_a_summary_that_records_no_source_stops_nothing_and_warns_of_nothing(
    recorded: str, capsys: pytest.CaptureFixture[str]
) -> None:
    csv("text,label\n")
    csv(recorded, str(paths.DATA_SUMMARY))
    warn_if_changed(params_for("mine.csv"), with_model=True)
    assert capsys.readouterr() == ("", "")


def test_a_changed_source_is_one_line_of_warning(capsys: pytest.CaptureFixture[str]) -> None:
    csv("text,label\n")
    recorded = locate_data("mine.csv", Path()).sha256
    csv(json.dumps({"source_sha256": recorded}), str(paths.DATA_SUMMARY))
    warn_if_changed(params_for("mine.csv"), with_model=True)
    assert capsys.readouterr() == ("", "")
    csv("text,label\na,x\n")
    warn_if_changed(params_for("mine.csv"), with_model=True)
    captured = capsys.readouterr()
    assert captured.err.startswith("warning: mine.csv has changed since the data were prepared")
    assert "dvc repro -f prepare" in captured.err
    assert (captured.out, captured.err.count("\n")) == ("", 1)


# The model


@pytest.fixture
def mine() -> Path:
    """Return a model folder, with its copy in models/base of the current folder."""
    write_files(paths.BASE_MODEL, MODEL)
    return write_files(Path("mine"), MODEL)


def test_what_cannot_have_changed_is_no_change(mine: Path) -> None:
    (mine / "README.md").write_text("not fetched")
    pinned = "all-MiniLM-L6-v2", f"owner/name@{REVISION}"
    for source in (str(mine), str(mine.resolve()), str(paths.BASE_MODEL), *pinned):
        assert model_change(source) is None
    shutil.rmtree(paths.BASE_MODEL)  # nothing to compare with
    assert model_change(str(mine)) is None


def test_what_changed_in_a_model_folder_is_named(mine: Path) -> None:
    content = MODEL["model.safetensors"]
    (mine / "model.safetensors").write_bytes(content[:-1] + b"\x01")  # of the same size
    change = str(model_change(str(mine)))
    assert change.startswith("mine has changed since models/base was copied from it (model.safet")
    assert change.endswith("run `dvc repro -f fetch_base`")
    (mine / "model.safetensors").write_bytes(content)
    (mine / "tokenizer_config.json").unlink()
    assert "(tokenizer_config.json)" in str(model_change(str(mine)))
    shutil.rmtree(mine)
    assert model_change(str(mine)) == "mine no longer exists; models/base is a copy of it"
