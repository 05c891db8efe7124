"""The command `bert-lora` itself: help, usage errors, and what it imports before it works."""

import os
import subprocess
import sys
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path

import pytest

from stages.core import paths
from stages.core.errors import UserError
from stages.tools.cli import enter_models, enter_project
from tests.support.command import Command
from tests.support.tiny import ROOT

GROUPS = {
    "Use": ("predict", "serve"),
    "Judge": ("compare", "seeds", "curve", "search"),
    "Publish": ("export",),
    "Check": ("verify",),
}
SUBCOMMANDS = tuple(name for names in GROUPS.values() for name in names)
HEAVY = {"torch", "transformers", "pandas", "datasets", "peft", "sklearn", "pyarrow", "numpy"}
HEAVY |= {"fastapi", "uvicorn", "prometheus_client"}
PARAMS = {"stages.core.params"}  # to build it takes as long as the rest of the help


def run_and_list_heavy(
    folder: Path, arguments: list[str], heavy: set[str] = HEAVY
) -> subprocess.CompletedProcess[str]:
    """Run the command in a process of its own; its last line names the heavy modules imported."""
    code = (
        "import sys; from stages.tools import cli\n"
        f"try: cli.main({arguments})\n"
        f"finally: print('heavy:', sorted({heavy} & set(sys.modules)))"
    )
    return subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        encoding="utf-8",
        check=False,
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(ROOT), "COLUMNS": "100"},
    )


@pytest.mark.parametrize(
    "arguments",
    [["--help"], ["predict", "--help"], ["export", "--help"], ["predikt"]],
)
def test_help_and_usage_errors_import_nothing_heavy(tmp_path: Path, arguments: list[str]) -> None:
    done = run_and_list_heavy(tmp_path, arguments, HEAVY | PARAMS)
    assert done.stdout.endswith("heavy: []\n")
    if "--help" in arguments:
        assert (done.returncode, done.stderr) == (0, "")
        options = {"predict": "--with-base", "export": "--int8"}
        assert options.get(arguments[0], "predict") in done.stdout
    else:
        assert done.returncode == 2
        assert done.stderr.startswith("error: bert-lora: No such command 'predikt'")
        assert done.stderr.endswith("Fix: see bert-lora --help\n")


@pytest.mark.parametrize("arguments", ["predict x", "serve", "compare", "seeds 2", "verify"])
def test_a_fault_in_params_is_reported_before_anything_heavy_is_imported(
    tmp_path: Path, arguments: str
) -> None:
    (tmp_path / "stages").mkdir()
    (tmp_path / "models/adapter").mkdir(parents=True)
    (tmp_path / "dvc.yaml").touch()
    text = (ROOT / "params.yaml").read_text(encoding="utf-8")
    assert "\nseed: 42\n" in text
    faulty = text.replace("\nseed: 42\n", "\nseed: many\n")
    (tmp_path / "params.yaml").write_text(faulty, encoding="utf-8")
    done = run_and_list_heavy(tmp_path, arguments.split())
    assert done.returncode == 2
    assert "seed: expected an integer" in done.stderr
    assert len(done.stderr.splitlines()) == 1
    assert done.stdout.endswith("heavy: []\n")


@pytest.mark.parametrize("name", SUBCOMMANDS)
def test_the_help_of_each_subcommand_has_an_example_and_fits_a_terminal(
    command: Command, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    result = command(name, "--help")
    assert (result.code, result.err) == (0, "")
    assert f"Example: bert-lora {name}" in result.out
    assert max(len(line) for line in result.out.splitlines()) <= 80


def test_the_help_has_every_subcommand_in_its_group_and_every_exit_code(command: Command) -> None:
    words = command("--help").out.split()
    for group, names in GROUPS.items():
        start = words.index(group)
        end = words.index("╰" + 78 * "─" + "╯", start)
        assert set(SUBCOMMANDS) & set(words[start:end]) >= set(names)
    codes = {error.exit_code for error in UserError.__subclasses__()}
    assert {str(code) for code in codes} <= set(words[words.index("codes") :])


def test_the_version_is_that_of_the_package(command: Command) -> None:
    assert command("--version").out == f"bert-lora {version('bert-lora-dvc')}\n"


@pytest.mark.parametrize("name", ["compare", "seeds", "verify"])
def test_outside_a_project_a_subcommand_ends_in_one_line(
    command: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    (tmp_path / "dvc.yaml").touch()
    monkeypatch.chdir(tmp_path)
    result = command(name, *(["2"] if name == "seeds" else []))
    assert result.code == 5
    assert "neither this folder nor one above it holds dvc.yaml and stages/" in result.err
    assert result.err.count("\n") == 1


@pytest.mark.parametrize(
    ("enter", "adapter", "entered"),
    [
        (enter_project, "a", "."),
        (enter_models, "a", "a"),  # rather than the project
        (enter_models, None, "."),
    ],
)
def test_the_nearest_folder_that_serves_is_entered(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    enter: Callable[[], None],
    adapter: str | None,
    entered: str,
) -> None:
    for name in ("stages", "a/b", *([f"a/{paths.ADAPTER}"] if adapter else [])):
        (tmp_path / name).mkdir(parents=True)
    (tmp_path / "dvc.yaml").touch()
    monkeypatch.chdir(tmp_path / "a/b")
    enter()
    assert Path.cwd() == tmp_path / entered
