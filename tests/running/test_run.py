"""How a stage starts and ends: params, environment, lock, what it is handed, its exit code."""

from __future__ import annotations

import errno
import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import joblib
import pytest

from stages.__main__ import STAGES
from stages.core.errors import DataError, exit_code_of
from stages.core.params import ComputeParams, Params
from stages.running.run import run_stage, set_environment, threads_of

ROOT = Path(__file__).parents[2]
THREADS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")
HEAVY = ("torch", "transformers", "datasets", "pandas", "numpy", "sklearn", "pyarrow", "peft")


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name in (*THREADS, "TOKENIZERS_PARALLELISM", "HF_HUB_DISABLE_TELEMETRY"):
        monkeypatch.setenv(name, "set by the shell")
    for name in ("TRANSFORMERS_VERBOSITY", "CUBLAS_WORKSPACE_CONFIG"):
        monkeypatch.setenv(name, "set by the shell")


def params_file(*changes: tuple[str, str]) -> None:
    text = (ROOT / "params.yaml").read_text(encoding="utf-8")
    for old, new in changes:
        assert text.count(old) == 1
        text = text.replace(old, new)
    Path("params.yaml").write_text(text, encoding="utf-8")


def python(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, *arguments],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "PYTHONPATH": str(ROOT), **environment},
    )


@pytest.mark.parametrize("stage", STAGES)
def test_every_stage_refuses_bad_params_in_one_line_before_anything_heavy(stage: str) -> None:
    params_file(("  epochs: auto\n", "  epochs: three\n"))
    call = (
        f"import runpy, sys\nsys.argv = ['stages', '{stage}']\n"
        "try: runpy.run_module('stages', run_name='__main__')\n"
        f"finally: print(sorted(set({HEAVY}) & set(sys.modules)))"
    )
    done = python("-c", call)
    assert done.returncode == 2
    assert re.match(
        r"error: params.yaml:\d+: train.epochs: expected auto, or an integer", done.stderr
    )
    assert done.stderr.count("\n") == 1
    assert done.stdout == "[]\n"


def test_a_bug_keeps_its_traceback() -> None:
    params_file()
    done = python(
        "-c", "from stages.running.run import run_stage\nrun_stage('prepare', lambda params: 1 / 0)"
    )
    assert done.returncode == 1
    assert "Traceback" in done.stderr
    assert done.stderr.endswith("ZeroDivisionError: division by zero\n")


def test_what_the_locale_cannot_show_is_no_traceback() -> None:
    params_file()
    shown = r"print('Gr\xf6\xdfe \u4e16')"
    call = f"from stages.running.run import run_stage\nrun_stage('prepare', lambda params: {shown})"
    done = python("-c", call, PYTHONIOENCODING="ascii", PYTHONUTF8="0", LC_ALL="C")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == "Gr\\xf6\\xdfe \\u4e16\n"


def test_what_is_handed_in_runs_before_the_stage(capsys: pytest.CaptureFixture[str]) -> None:
    params_file()
    order: list[str] = []

    def work(params: Params) -> None:
        order.append(f"work, seed {params.seed}")

    with pytest.raises(SystemExit) as ended:
        run_stage(
            "prepare", work, before=lambda params: order.append(f"before, seed {params.seed}")
        )
    assert ended.value.code == 0
    assert order == ["before, seed 42", "work, seed 42"]
    assert capsys.readouterr().err == ""


def compute(threads: object) -> ComputeParams:
    return ComputeParams.model_validate({"device": "cpu", "precision": "fp32", "threads": threads})


@pytest.mark.parametrize("threads", [1, 3])
def test_the_thread_count_of_the_params_overrides_the_shell(threads: int) -> None:
    set_environment(compute(threads))
    assert [os.environ[name] for name in THREADS] == [str(threads)] * 3


def test_auto_is_the_cores_of_this_process(monkeypatch: pytest.MonkeyPatch) -> None:
    assert 1 <= threads_of(compute("auto")) <= (os.cpu_count() or 1)
    monkeypatch.setattr(joblib, "cpu_count", lambda: 7)  # a container's quota, for example
    set_environment(compute("auto"))
    assert os.environ["OMP_NUM_THREADS"] == "7"


def test_nothing_of_the_shell_is_left() -> None:
    set_environment(compute(1))
    assert "set by the shell" not in os.environ.values()


def raising(error: BaseException) -> Callable[[], None]:
    def work() -> None:
        raise error

    return work


def test_a_mistake_ends_in_its_lines_and_its_code(capsys: pytest.CaptureFixture[str]) -> None:
    error = DataError.from_faults([("a: wrong", "correct a"), ("b: wrong", "correct b")])
    assert exit_code_of(raising(error)) == 3
    captured = capsys.readouterr()
    assert captured.err == "error: a: wrong. Fix: correct a\nerror: b: wrong. Fix: correct b\n"
    assert captured.out == ""


def test_an_interrupt_ends_as_a_shell_expects(capsys: pytest.CaptureFixture[str]) -> None:
    assert exit_code_of(raising(KeyboardInterrupt())) == 130
    assert capsys.readouterr().err == "interrupted\n"


@pytest.mark.parametrize(
    ("number", "message"),
    [
        (errno.ENOSPC, "no space left"),
        (errno.EDQUOT, "no space left"),
        (errno.EFBIG, "no space left"),
        (errno.EACCES, "no permission"),
        (errno.EPERM, "no permission"),
        (errno.EROFS, "no permission"),
    ],
)
def test_a_full_or_locked_disk_is_one_line(
    number: int, message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert exit_code_of(raising(OSError(number, "no", "data/x\x1b[2J"))) == 5
    printed = capsys.readouterr().err
    assert printed.startswith(f"error: data/x\\x1b[2J: {message}. Fix: ")
    assert printed.count("\n") == 1
    assert exit_code_of(raising(OSError(number, "no name"))) == 5
