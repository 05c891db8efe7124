"""Files are written completely or not at all, the same bytes for the same content."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from stages.core import paths
from stages.core.artefacts import read_json, remake, replacing, write_json
from stages.core.errors import DataError


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def tree() -> dict[str, str]:
    """Return every file below the current folder, hidden ones too, with its content."""
    return {
        str(Path(folder, name)): Path(folder, name).read_text()
        for folder, _, names in os.walk(".")
        for name in names
        if Path(folder, name).exists()  # not a broken link
    }


def folder(path: Path, **files: str) -> Path:
    path.mkdir(parents=True)
    for name, content in files.items():
        (path / name).write_text(content)
    return path


OLD: dict[str, Callable[[Path], object]] = {
    "nothing": lambda _: None,
    "a file": lambda path: path.write_text("old"),
    "a folder": lambda path: folder(path, old="1", both="1"),
    "a link to a folder": lambda path: path.symlink_to(folder(Path("kept"), inside="1").absolute()),
    "a link to nothing": lambda path: path.symlink_to("gone"),
}
NEW: dict[str, Callable[[Path], object]] = {
    "a file": lambda path: path.write_text("new"),
    "a folder": lambda path: folder(path, new="2", both="2"),
}


@pytest.mark.parametrize("new", NEW)
@pytest.mark.parametrize("old", OLD)
def test_the_new_content_appears_whole_and_at_the_end(old: str, new: str) -> None:
    Path("a").mkdir()
    path = Path("a/b/c") if old == "nothing" else Path("a/c")
    OLD[old](path)
    before = tree()
    with replacing(path) as temporary:
        NEW[new](temporary)
        assert before.items() <= tree().items()
    kept = {name: text for name, text in before.items() if name.startswith("kept")}
    written = {str(path): "new"} if new == "a file" else {f"{path}/new": "2", f"{path}/both": "2"}
    assert tree() == kept | written


def write_half(fault: type[BaseException] | None, kind: str) -> None:
    with replacing(Path("c")) as temporary:
        if fault:  # in the middle of writing; otherwise nothing was written
            NEW[kind](temporary)
            raise fault


@pytest.mark.parametrize("fault", [ValueError, KeyboardInterrupt, None])
@pytest.mark.parametrize("old", ["a file", "a folder"])
def test_a_fault_leaves_the_old_content_and_nothing_else(
    old: str, fault: type[BaseException] | None
) -> None:
    OLD[old](Path("c"))
    before = tree()
    with pytest.raises(fault or FileNotFoundError):
        write_half(fault, old)
    assert tree() == before
    assert [path.name for path in Path().iterdir()] == ["c"]


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
        (0.1 + 0.2, 0.3),
        (12345.6789012, 12345.678901),
    ],
)
def test_a_small_number_keeps_its_digits(value: float, written: float) -> None:
    write_json(Path("m.json"), {"x": value})
    assert read_json_here() == {"x": written}


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


def test_a_damaged_file_that_no_stage_makes_does_not_force_all_of_them() -> None:
    assert remake(Path("models/unknown.json")) == "make it again: dvc repro"
    assert remake(paths.LABELS) == "make it again: dvc repro -f prepare"


@pytest.mark.parametrize("content", [b"", b"{", b"<<<<<<< HEAD\n", b"\xff\xfe", b"[" * 10**5])
def test_a_damaged_json_file_names_what_makes_it_again(content: bytes) -> None:
    Path("data").mkdir()
    paths.LABELS.write_bytes(content)
    with pytest.raises(DataError, match="not valid JSON") as caught:
        read_json(paths.LABELS)
    assert str(caught.value).startswith("error: data/labels.json: ")
    assert "dvc repro -f prepare" in str(caught.value)
