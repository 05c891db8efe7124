"""Stage fetch_base: what it leaves in models/base, and what it refuses."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from stages.core.errors import ModelError
from stages.core.params import Params, load_params
from stages.fetch_base import fetch_base
from tests.support.model_files import SAFETENSORS, write_files
from tests.support.tiny import changed, save_params, shipped

ROOT = Path(__file__).parents[1]
MODEL = {
    "config.json": b'{"model_type": "bert"}\r\n',
    "model.safetensors": SAFETENSORS,
    "tokenizer.json": b"{}",
}
BASE = Path("models/base")


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def params_for(source: Path) -> Params:
    params = load_params(ROOT / "params.yaml")
    model = params.model.model_copy(update={"source": str(source)})
    return params.model_copy(update={"model": model})


def model_in(folder: Path, **changes: bytes) -> Path:
    return write_files(folder, {**MODEL, **changes})


def content_of(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def python(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, *arguments],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )


def test_leaves_the_files_byte_for_byte_and_nothing_else(
    capsys: pytest.CaptureFixture[str],
) -> None:
    source = model_in(Path("mine"), **{"pytorch_model.bin": b"x", "modeling.py": b"x"})
    BASE.mkdir(parents=True)
    (BASE / "vocab.txt").write_bytes(b"of another model")
    fetch_base(params_for(source))
    assert content_of(BASE) == MODEL
    assert capsys.readouterr().out == "models/base: local, 3 files, 0.0 MB\n"
    assert [path.name for path in Path("models").iterdir()] == ["base"]


def test_may_read_the_folder_it_writes() -> None:
    model_in(Path("mine"))
    fetch_base(params_for(Path("mine")))
    fetch_base(params_for(BASE))
    assert content_of(BASE) == MODEL


def test_a_refused_model_leaves_the_old_one() -> None:
    fetch_base(params_for(model_in(Path("mine"))))
    code = json.dumps({"auto_map": {"AutoModel": "modeling.Evil"}}).encode()
    with pytest.raises(ModelError, match="auto_map"):
        fetch_base(params_for(model_in(Path("theirs"), **{"config.json": code})))
    assert content_of(BASE) == MODEL


def test_a_mistake_ends_in_one_line_before_anything_heavy_is_imported() -> None:
    text = (ROOT / "params.yaml").read_text(encoding="utf-8")
    assert "  source: all-MiniLM-L6-v2\n" in text
    wrong = text.replace("  source: all-MiniLM-L6-v2\n", "  source: all-MiniLM-L6\n")
    Path("params.yaml").write_text(wrong, encoding="utf-8")
    call = (
        "import runpy, sys; sys.argv = ['stages', 'fetch_base']\n"
        "try: runpy.run_module('stages', run_name='__main__')\n"
        "finally: print(sorted({'torch', 'datasets', 'transformers'} & set(sys.modules)))"
    )
    done = python("-c", call)
    assert done.returncode == 2
    assert done.stdout == "[]\n"
    assert done.stderr.startswith("error: params.yaml: model.source: 'all-MiniLM-L6' is no known")
    assert "did you mean all-MiniLM-L6-v2?" in done.stderr
    assert done.stderr.count("\n") == 1


def test_in_a_fresh_clone_it_does_not_warn_of_data_that_are_not_prepared_yet() -> None:
    """DVC may run fetch_base before prepare; the committed metrics are then of other data."""
    Path("mine.csv").write_text("text,label\n", encoding="utf-8")
    source = str(model_in(Path("mine")))
    save_params(changed(shipped(), data__source="mine.csv", model__source=source))
    Path("metrics").mkdir()
    Path("metrics/data.json").write_text(json.dumps({"source_sha256": "0" * 64}), encoding="utf-8")
    done = python("-m", "stages", "fetch_base")
    assert (done.returncode, done.stderr) == (0, "")
    later = python("-m", "stages", "evaluate_tfidf")  # reads the prepared rows, so it does warn
    assert later.stderr.startswith("warning: mine.csv has changed since the data were prepared")
