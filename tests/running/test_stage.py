"""How a stage ends: its exit code, one line for a mistake, a traceback for a bug."""

from __future__ import annotations

import errno
import json
import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from stages.core.errors import DataError, UserError
from stages.core.params import ComputeParams, Params, load_params
from stages.running.stage import cores, exit_code_of, run_stage, set_environment

ROOT = Path(__file__).parents[2]
STAGES = ("prepare", "fetch_base", "evaluate_base", "train_lora", "evaluate_adapter", "compare")
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


def raising(error: BaseException) -> Callable[[], None]:
    def work() -> None:
        raise error

    return work


@pytest.mark.parametrize("stage", STAGES)
def test_every_stage_refuses_bad_params_in_one_line_before_anything_heavy(stage: str) -> None:
    params_file(("  epochs: 2\n", "  epochs: three\n"))
    call = (
        f"import runpy, sys\ntry: runpy.run_module('stages.{stage}', run_name='__main__')\n"
        f"finally: print(sorted(set({HEAVY}) & set(sys.modules)))"
    )
    done = python("-c", call)
    assert done.returncode == 2
    assert re.match(r"error: params.yaml:\d+: train.epochs: expected an integer", done.stderr)
    assert done.stderr.count("\n") == 1
    assert done.stdout == "[]\n"


def test_a_stage_that_ends_well_ends_with_zero() -> None:
    params_file()
    seen: list[Params] = []
    with pytest.raises(SystemExit) as ended:
        run_stage(seen.append)
    assert ended.value.code == 0
    assert seen == [load_params()]


def test_a_mistake_ends_in_its_lines_and_its_code(capsys: pytest.CaptureFixture[str]) -> None:
    error = DataError.from_faults([("a: wrong", "mend a"), ("b: wrong", "mend b")])
    assert exit_code_of(raising(error)) == 3
    captured = capsys.readouterr()
    assert captured.err == "error: a: wrong. Fix: mend a\nerror: b: wrong. Fix: mend b\n"
    assert captured.out == ""


def test_an_interrupt_ends_as_a_shell_expects(capsys: pytest.CaptureFixture[str]) -> None:
    assert exit_code_of(raising(KeyboardInterrupt())) == 130
    assert capsys.readouterr().err == "interrupted\n"


@pytest.mark.parametrize(
    ("number", "said"),
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
    number: int, said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert exit_code_of(raising(OSError(number, "no", "data/x\x1b[2J"))) == 5
    printed = capsys.readouterr().err
    assert printed.startswith(f"error: data/x\\x1b[2J: {said}. Fix: ")
    assert printed.count("\n") == 1
    assert exit_code_of(raising(OSError(number, "no name"))) == 5


@pytest.mark.parametrize(
    "bug", [OSError(errno.EBADF, "a bug"), KeyError("a bug"), RuntimeError("a bug")]
)
def test_a_bug_is_not_caught(bug: Exception) -> None:
    with pytest.raises(type(bug), match="a bug"):
        exit_code_of(raising(bug))


def test_a_bug_keeps_its_traceback() -> None:
    params_file()
    done = python(
        "-c", "from stages.running.stage import run_stage\nrun_stage(lambda params: 1 / 0)"
    )
    assert done.returncode == 1
    assert "Traceback" in done.stderr
    assert done.stderr.endswith("ZeroDivisionError: division by zero\n")


def test_what_the_locale_cannot_show_is_no_traceback() -> None:
    params_file()
    shown = r"print('Gr\xf6\xdfe \u4e16')"
    call = f"from stages.running.stage import run_stage\nrun_stage(lambda params: {shown})"
    done = python("-c", call, PYTHONIOENCODING="ascii", PYTHONUTF8="0", LC_ALL="C")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == "Gr\\xf6\\xdfe \\u4e16\n"


@pytest.mark.parametrize("threads", [1, 3])
def test_the_thread_count_of_the_params_overrides_the_shell(threads: int) -> None:
    set_environment(ComputeParams(device="cpu", precision="fp32", threads=threads))
    assert [os.environ[name] for name in THREADS] == [str(threads)] * 3


def test_auto_takes_the_cores_of_this_process() -> None:
    set_environment(ComputeParams(device="cpu", precision="fp32", threads="auto"))
    assert os.environ["OMP_NUM_THREADS"] == str(cores())
    assert 1 <= cores() <= (os.cpu_count() or 1)


def stage(params: Params) -> None:
    """Do nothing, like a stage that is not prepare."""


def prepare(params: Params) -> None:
    """Do nothing, under the name of the stage that reads the source."""


def ends_well(work: Callable[[Params], None]) -> None:
    with pytest.raises(SystemExit) as ended:
        run_stage(work)
    assert ended.value.code == 0


def prepared_from(recorded: object) -> None:
    Path("mine.csv").write_text("text,label\n")
    params_file(("  source: movie-reviews\n", "  source: mine.csv\n"))
    Path("metrics").mkdir()
    Path("metrics/data.json").write_text(json.dumps(recorded))


def test_a_changed_source_is_warned_of_by_all_but_prepare(
    capsys: pytest.CaptureFixture[str],
) -> None:
    prepared_from({"source_sha256": "0" * 64})
    ends_well(prepare)
    assert capsys.readouterr().err == ""
    ends_well(stage)
    printed = capsys.readouterr().err
    assert printed.startswith("warning: mine.csv has changed since the data were prepared")
    assert printed.count("\n") == 1


@pytest.mark.parametrize("recorded", [[], {}, None, "no", {"source_sha256": None}])
def test_a_summary_that_records_no_source_is_no_warning(
    recorded: object, capsys: pytest.CaptureFixture[str]
) -> None:
    prepared_from(recorded)
    ends_well(stage)
    assert capsys.readouterr().err == ""


def test_a_damaged_summary_stops_no_stage(capsys: pytest.CaptureFixture[str]) -> None:
    prepared_from({})
    Path("metrics/data.json").write_text("<<<<<<< HEAD\n")
    ends_well(stage)
    assert capsys.readouterr().err == ""


def test_a_summary_that_cannot_be_read_stops_no_stage(capsys: pytest.CaptureFixture[str]) -> None:
    params_file()
    Path("metrics/data.json").mkdir(parents=True)
    ends_well(stage)
    assert capsys.readouterr().err == ""


def test_every_kind_of_mistake_becomes_its_code() -> None:
    codes = {kind.exit_code: exit_code_of(raising(kind("a", "b"))) for kind in kinds()}
    assert codes == {1: 1, 2: 2, 3: 3, 4: 4, 5: 5, 6: 6}


def kinds() -> list[type[UserError]]:
    return [UserError, *UserError.__subclasses__()]
