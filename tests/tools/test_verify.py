"""`bert-lora verify`: bytes, meaning and surroundings, each fault by its name."""

import hashlib
import json
import shutil
from collections.abc import Callable
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch
from safetensors.torch import load_file, save_file

from stages.core import paths
from stages.core.errors import DataError, ModelError, UserError
from stages.running.dvc import Recorded, md5_of, object_of
from stages.tools.verify import (
    changed_since,
    check_meaning,
    source_faults,
    stored_faults,
    version_faults,
)
from tests.support.model_files import MODEL, write_files
from tests.support.tiny import changed, shipped

CACHE = Path("cache")
FILE = Path("out/a.txt")


def cached(content: bytes, ending: str = "") -> str:
    """Put an object into the cache and return its name there."""
    md5 = hashlib.md5(content, usedforsecurity=False).hexdigest() + ending
    file = object_of(CACHE, md5)
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(content)
    return md5


@pytest.fixture
def folder(tmp_cwd: Path) -> Recorded:
    """Return a folder of one file that workspace and cache hold alike."""
    assert Path.cwd() == tmp_cwd
    FILE.parent.mkdir()
    FILE.write_bytes(b"content")
    listing = [{"md5": cached(b"content"), "relpath": "a.txt"}]
    return Recorded(Path("out"), "train", cached(json.dumps(listing).encode(), ".dir"), 7, True)


def damage(path: Path) -> None:
    path.write_bytes(b"other")


def file_object(_: Recorded) -> Path:
    return object_of(CACHE, str(md5_of(FILE)))


def listing(folder: Recorded) -> Path:
    return object_of(CACHE, folder.md5)


@pytest.mark.parametrize(
    ("provoke", "what"),
    [
        (lambda _: None, None),
        (lambda _: Path("out/b.txt").touch(), "out/b.txt: dvc.lock names no such file"),
        (lambda _: damage(FILE), "out/a.txt: is not what dvc.lock names"),
        (lambda _: FILE.unlink(), "out/a.txt: missing"),
        (lambda f: damage(file_object(f)), "out: its object in the cache is damaged: {file}"),
        (lambda f: file_object(f).unlink(), "out: its object in the cache is missing: {file}"),
        (lambda f: damage(listing(f)), "out: its object in the cache is damaged: {listing}"),
        (lambda f: listing(f).unlink(), "out: its object in the cache is missing: {listing}"),
        (lambda _: damage(object_of(CACHE, cached(b"x"))), "{other}: an object of another run, da"),
    ],
)
def test_a_file_that_is_not_what_dvc_lock_names_is_found(
    folder: Recorded, provoke: Callable[[Recorded], None], what: str | None
) -> None:
    places = {"file": file_object(folder), "listing": listing(folder)}
    places["other"] = object_of(CACHE, hashlib.md5(b"x", usedforsecurity=False).hexdigest())
    provoke(folder)
    found = [fault for fault, _ in stored_faults([folder], CACHE)]
    assert len(found) == (what is not None)
    assert what is None or found[0].startswith(what.format(**places))


def test_a_file_that_git_keeps_is_hashed_in_the_workspace(tmp_cwd: Path) -> None:
    file = tmp_cwd / "base.json"
    file.write_bytes(b"{}")
    record = Recorded(file, "evaluate_base", str(md5_of(file)), 2, False)
    assert list(stored_faults([record], CACHE)) == []
    file.write_bytes(b"[]")
    ((what, _),) = stored_faults([record], CACHE)
    assert what == f"{file}: is not what evaluate_base wrote"


DEPS, SEEDS = "changed deps", str(paths.SEEDS)
OF_PARAMS = {DEPS: {"params.yaml": {"lora.r": "modified", "seed": "new"}}}


@pytest.mark.parametrize(
    ("status", "expected"),
    [
        ({}, []),
        ({"train": [{"changed outs": {"models/adapter": "modified"}}]}, []),
        ({"train": ["changed command"]}, ["train: has not run since a change of changed command"]),
        (
            {"train": [{DEPS: {"data/train.parquet": "modified"}}, {"changed outs": {"x": "new"}}]},
            ["train: has not run since a change of data/train.parquet"],
        ),
        (
            {"train": [OF_PARAMS]},
            ["train: has not run since a change of params.yaml lora.r, params.yaml seed"],
        ),
        ({"compare": [{DEPS: {SEEDS: "modified", "metrics/records/search.csv": "new"}}]}, []),
        (
            {"compare": [{DEPS: {SEEDS: "modified", "metrics/base.json": "new"}}]},
            [f"compare: has not run since a change of {SEEDS}, metrics/base.json"],
        ),
        ({"train": [{DEPS: {SEEDS: "new"}}]}, [f"train: has not run since a change of {SEEDS}"]),
    ],
)
def test_inputs_that_changed_since_a_run_are_named(
    status: dict[str, Any], expected: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    faults = list(changed_since(status))
    assert faults == [(f"stage {what}", "run: dvc repro") for what in expected]
    note = "note: the report does not show metrics/"
    assert capsys.readouterr().out.startswith(note) == ("compare" in status and not expected)


@pytest.mark.usefixtures("tmp_cwd")
def test_a_local_source_that_changed_is_named_and_one_that_is_gone_is_no_fault(
    capsys: pytest.CaptureFixture[str],
) -> None:
    mine = write_files(Path("mine"), MODEL)
    write_files(paths.BASE_MODEL, MODEL)
    Path("mine.csv").write_text("text,label\n", encoding="utf-8")
    params = changed(shipped(), model__source="mine", data__source="mine.csv")
    paths.DATA_SUMMARY.parent.mkdir()
    sha256 = hashlib.sha256(b"text,label\n").hexdigest()
    paths.DATA_SUMMARY.write_text(json.dumps({"source_sha256": sha256}), encoding="utf-8")
    assert list(source_faults(params)) == []
    (mine / "config.json").write_bytes(b'{"model_type": "bert", "num_hidden_layers": 1}')
    Path("mine.csv").write_text("text,label\na,b\n", encoding="utf-8")
    data, model = source_faults(params)
    assert data[0] == "mine.csv has changed since the data were prepared"
    assert data[1].startswith("run `dvc repro -f prepare`")
    assert model == (
        "mine has changed since models/base was copied from it (config.json)",
        "run `dvc repro -f fetch_base`",
    )
    assert capsys.readouterr().out == ""
    shutil.rmtree(mine)
    Path("mine.csv").unlink()
    assert list(source_faults(params)) == []
    data_gone, model_gone = capsys.readouterr().out.splitlines()
    assert data_gone == "warning: mine.csv no longer exists; the prepared rows come from it"
    assert model_gone == "warning: mine no longer exists; models/base is a copy of it"


@pytest.mark.usefixtures("tmp_cwd")
def test_only_other_versions_of_installed_packages_are_named() -> None:
    assert list(version_faults()) == []
    same = f"typer=={version('typer')}\nno-such-package==1.0\n"
    paths.CONSTRAINTS.parent.mkdir()
    paths.CONSTRAINTS.write_text(same, encoding="utf-8")
    assert list(version_faults()) == []
    paths.CONSTRAINTS.write_text(f"{same}rich==0.0.1\n", encoding="utf-8")
    ((what, fix),) = version_faults()
    assert what == f"{paths.CONSTRAINTS}: rich {version('rich')}, not 0.0.1"
    assert fix == f"pip install -e . -c {paths.CONSTRAINTS}"


def change(path: Path, **values: Any) -> None:
    """Change keys of a JSON file."""
    content = json.loads(path.read_text(encoding="utf-8"))
    path.write_text(json.dumps(content | values), encoding="utf-8")


def spoil_a_weight() -> None:
    tensors = load_file(paths.HEAD_WEIGHTS)
    tensors[min(tensors)].view(-1)[0] = torch.nan
    save_file(tensors, paths.HEAD_WEIGHTS)


def drop_a_row() -> None:
    frame = pd.read_csv(paths.BASE_PREDICTIONS)
    frame.iloc[1:].to_csv(paths.BASE_PREDICTIONS, index=False)


MEANING: list[tuple[Callable[[], None], type[UserError], str]] = [
    (spoil_a_weight, ModelError, "holds a value that is not finite"),
    (
        lambda: change(paths.BASE_METRICS, f1_macro=0.125),
        DataError,
        "metrics/base.json: f1_macro 0.125, the predictions give",
    ),
    (
        lambda: change(paths.ADAPTER_METRICS, f1_macro=0.125),
        DataError,
        "metrics/adapter.json: f1_macro 0.125, the predictions give",
    ),
    (drop_a_row, DataError, "its rows or labels are not those of data/test"),
    *(
        (partial(change, paths.COMPARISON, **{key: value}), DataError, f"comparison.json: {key} ")
        for key, value in (("accuracy_base", 0.125), ("accuracy_gain_low", 9), ("mcnemar_p", 0.9))
    ),
    (lambda: change(paths.ADAPTER_MANIFEST, labels=["x", "y"]), ModelError, "labels"),
]


@pytest.mark.usefixtures("project")
@pytest.mark.parametrize(("provoke", "kind", "message"), MEANING)
def test_artefacts_that_do_not_belong_together_are_named(
    provoke: Callable[[], None], kind: type[UserError], message: str
) -> None:
    check_meaning()
    provoke()
    with pytest.raises(kind) as caught:
        check_meaning()
    assert message in str(caught.value)
    assert len(caught.value.faults) == 1
