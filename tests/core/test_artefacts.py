"""Files are written completely or not at all, the same bytes for the same content."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from stages.core import paths
from stages.core.artefacts import read_json, remake, replacing, require, sha256_of, write_json
from stages.core.errors import DataError, HostError


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def tree() -> dict[str, str]:
    """Return every file below the current folder, hidden ones too, with its content."""
    return {
        str(Path(folder, name)): Path(folder, name).read_text()
        for folder, _, names in os.walk(".")
        for name in names
    }


def folder(path: Path, **files: str) -> Path:
    path.mkdir(parents=True)
    for name, content in files.items():
        (path / name).write_text(content)
    return path


def test_a_file_appears_in_a_folder_that_was_not_there() -> None:
    with replacing(Path("a/b/c.txt")) as temporary:
        temporary.write_text("new")
        assert not Path("a/b/c.txt").exists()
    assert tree() == {"a/b/c.txt": "new"}


def test_a_file_keeps_its_old_content_until_the_end() -> None:
    path = Path("c.txt")
    path.write_text("old")
    with replacing(path) as temporary:
        temporary.write_text("new")
        assert path.read_text() == "old"
    assert tree() == {"c.txt": "new"}


def test_a_folder_is_replaced_whole() -> None:
    folder(Path("c"), old="1", both="1")
    with replacing(Path("c")) as temporary:
        folder(temporary, new="2", both="2")
        assert tree()["c/old"] == "1"
    assert tree() == {"c/new": "2", "c/both": "2"}


def test_a_file_takes_the_place_of_a_folder_and_a_folder_that_of_a_file() -> None:
    folder(Path("c"), old="1")
    with replacing(Path("c")) as temporary:
        temporary.write_text("file")
    assert tree() == {"c": "file"}
    with replacing(Path("c")) as temporary:
        folder(temporary, new="2")
    assert tree() == {"c/new": "2"}


@pytest.mark.parametrize("target", [Path("kept"), Path("kept.txt"), Path("gone")])
def test_a_link_is_replaced_and_not_followed(target: Path) -> None:
    folder(Path("kept"), inside="1")
    Path("kept.txt").write_text("1")
    Path("c").symlink_to(target)
    with replacing(Path("c")) as temporary:
        folder(temporary, new="2")
    assert tree() == {"c/new": "2", "kept/inside": "1", "kept.txt": "1"}


def write_half(path: Path, fault: type[BaseException] | BaseException) -> None:
    """Fail in the middle of writing what `path` is: a folder or a file."""
    with replacing(path) as temporary:
        if path.is_dir():
            folder(temporary / "deep", new="2")
        else:
            temporary.write_text("half")
        raise fault


@pytest.mark.parametrize("fault", [ValueError, KeyboardInterrupt, OSError])
def test_a_fault_leaves_the_old_file_and_nothing_else(fault: type[BaseException]) -> None:
    Path("c.txt").write_text("old")
    with pytest.raises(fault):
        write_half(Path("c.txt"), fault)
    assert tree() == {"c.txt": "old"}


def test_a_fault_leaves_the_old_folder_and_nothing_else() -> None:
    folder(Path("c"), old="1")
    with pytest.raises(ValueError, match="half"):
        write_half(Path("c"), ValueError("half"))
    assert tree() == {"c/old": "1"}
    assert [path.name for path in Path().iterdir()] == ["c"]


@pytest.mark.parametrize("stop", [1, 2])
def test_an_interrupt_while_folders_change_places_leaves_the_old_one(
    stop: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder(Path("c"), old="1")
    rename, calls = Path.rename, []

    def interrupted(self: Path, target: Path) -> Path:
        calls.append(target)
        if len(calls) == stop:
            raise KeyboardInterrupt
        return rename(self, target)

    monkeypatch.setattr(Path, "rename", interrupted)
    with pytest.raises(KeyboardInterrupt), replacing(Path("c")) as temporary:
        folder(temporary, new="2")
    assert [path.name for path in Path().iterdir()] == ["c"]
    assert tree() == {"c/old": "1"}


def test_nothing_written_leaves_the_old_file() -> None:
    Path("c.txt").write_text("old")
    with pytest.raises(FileNotFoundError), replacing(Path("c.txt")):
        pass
    assert tree() == {"c.txt": "old"}


def test_what_a_killed_run_left_is_cleared() -> None:
    folder(Path(f".c.tmp-{os.getpid()}"), half="1")
    folder(Path(".c.tmp-99999999"), half="1")
    folder(Path(f".c.tmp-{10**20}"), half="1")
    Path(".cc.tmp-1").write_text("another's")
    Path(f".c.tmp-{os.getppid()}").write_text("of a running process")
    with replacing(Path("c")) as temporary:
        folder(temporary, new="2")
    assert tree() == {
        "c/new": "2",
        ".cc.tmp-1": "another's",
        f".c.tmp-{os.getppid()}": "of a running process",
    }


def test_brackets_in_a_name_are_no_pattern() -> None:
    Path(".out1.csv.tmp-99999999").write_text("another's")
    with replacing(Path("out[1].csv")) as temporary:
        temporary.write_text("new")
    assert tree() == {"out[1].csv": "new", ".out1.csv.tmp-99999999": "another's"}


def test_json_has_sorted_keys_rounded_floats_and_a_newline() -> None:
    write_json(Path("m.json"), {"b": [1 / 3, (2 / 3,)], "a": {"d": 1, "c": "é"}, "z": -1e-9})
    assert (
        Path("m.json").read_bytes()
        == (
            '{\n  "a": {\n    "c": "é",\n    "d": 1\n  },\n'
            '  "b": [\n    0.333333,\n    [\n      0.666667\n    ]\n  ],\n  "z": -1e-09\n}\n'
        ).encode()
    )


@pytest.mark.parametrize(
    ("value", "written"),
    [
        (1e-7, 1e-7),
        (1.23456789e-5, 1.2e-5),
        (-4.5678e-12, -4.57e-12),
        (0.00012345678, 0.000123),
        (0.12345678, 0.123457),
        (0.0, 0.0),
        (-0.0, 0.0),
        (12345.6789012, 12345.678901),
    ],
)
def test_a_small_number_keeps_its_digits(value: float, written: float) -> None:
    write_json(Path("m.json"), {"x": value})
    assert read_json_here() == {"x": written}


def test_json_is_the_same_bytes_in_any_order_of_keys() -> None:
    write_json(Path("a.json"), {"x": 0.1 + 0.2, "y": 2})
    write_json(Path("b.json"), {"y": 2, "x": 0.3})
    assert Path("a.json").read_bytes() == Path("b.json").read_bytes()


def test_json_is_rounded_to_the_decimals_asked_for() -> None:
    write_json(Path("m.json"), {"x": 0.123456}, decimals=2)
    assert read_json_here() == {"x": 0.12}


def read_json_here() -> Any:
    Path("data").mkdir(exist_ok=True)
    Path("m.json").rename(paths.LABELS)
    return read_json(paths.LABELS)


@pytest.mark.parametrize("number", [float("nan"), float("inf"), float("-inf")])
def test_a_number_that_is_not_finite_is_not_written(number: float) -> None:
    write_json(Path("m.json"), {"x": 1})
    with pytest.raises(ValueError, match="not JSON compliant"):
        write_json(Path("m.json"), {"y": [{"x": number}]})
    assert tree() == {"m.json": '{\n  "x": 1\n}\n'}


@pytest.mark.parametrize(
    ("path", "stage"),
    [
        (paths.TRAIN, "prepare"),
        (paths.BASE_MODEL, "fetch_base"),
        (paths.HEAD, "evaluate_base"),
        (paths.HEAD_WEIGHTS, "evaluate_base"),
        (paths.ADAPTER, "train_lora"),
        (paths.ADAPTER_MANIFEST, "train_lora"),
        (paths.MODEL_CARD, "compare"),
        (paths.ADAPTER_PREDICTIONS, "evaluate_adapter"),
    ],
)
def test_a_missing_input_names_the_stage_that_makes_it(path: Path, stage: str) -> None:
    with pytest.raises(HostError) as caught:
        require(path)
    assert str(caught.value) == (
        f"error: {path} not found: stage '{stage}' makes it. Fix: run: dvc repro {stage}"
    )


def test_a_missing_file_that_no_stage_makes_is_no_traceback() -> None:
    with pytest.raises(HostError) as caught:
        require(Path("models/unknown"))
    assert str(caught.value) == (
        "error: models/unknown not found: no stage makes it. Fix: run: dvc repro"
    )


def test_a_damaged_file_that_no_stage_makes_does_not_force_all_of_them() -> None:
    assert remake(Path("models/unknown.json")) == "make it again: dvc repro"
    assert remake(paths.LABELS) == "make it again: dvc repro -f prepare"


def test_an_input_that_is_there_is_returned() -> None:
    folder(paths.BASE_MODEL)
    assert require(paths.BASE_MODEL) == paths.BASE_MODEL


@pytest.mark.parametrize("content", [b"", b"{", b"<<<<<<< HEAD\n", b"\xff\xfe", b"[" * 10**5])
def test_a_damaged_json_file_names_what_makes_it_again(content: bytes) -> None:
    Path("data").mkdir()
    paths.LABELS.write_bytes(content)
    with pytest.raises(DataError, match="not valid JSON") as caught:
        read_json(paths.LABELS)
    assert str(caught.value).startswith("error: data/labels.json: ")
    assert "dvc repro -f prepare" in str(caught.value)


def test_the_sha256_is_of_the_bytes() -> None:
    Path("c.txt").write_bytes(b"abc")
    assert sha256_of(Path("c.txt")) == (
        "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
    )
