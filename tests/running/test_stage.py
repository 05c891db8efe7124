"""How a stage starts and ends: checked params first, what it is handed, its exit code."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from stages.core import paths
from stages.core.params import Params, load_params
from stages.running.stage import run_stage

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


@pytest.mark.parametrize("stage", STAGES)
def test_every_stage_refuses_bad_params_in_one_line_before_anything_heavy(stage: str) -> None:
    params_file(("  epochs: auto\n", "  epochs: three\n"))
    call = (
        f"import runpy, sys\ntry: runpy.run_module('stages.{stage}', run_name='__main__')\n"
        f"finally: print(sorted(set({HEAVY}) & set(sys.modules)))"
    )
    done = python("-c", call)
    assert done.returncode == 2
    assert re.match(
        r"error: params.yaml:\d+: train.epochs: expected auto, or an integer", done.stderr
    )
    assert done.stderr.count("\n") == 1
    assert done.stdout == "[]\n"


def test_a_stage_that_ends_well_ends_with_zero() -> None:
    params_file()
    seen: list[Params] = []
    with pytest.raises(SystemExit) as ended:
        run_stage(seen.append)
    assert ended.value.code == 0
    assert seen == [load_params()]


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


def test_starting_a_stage_imports_no_subject() -> None:
    rooms = ("sources", "rows", "model", "scoring", "training", "reporting", "tools")
    code = (
        "import sys, stages.running.stage\n"
        "ours = [name.split('.')[1] for name in sys.modules if name.startswith('stages.')]\n"
        f"print([room for room in ours if room in {rooms}])"
    )
    assert python("-c", code).stdout == "[]\n"


def test_what_is_handed_in_runs_before_the_stage(capsys: pytest.CaptureFixture[str]) -> None:
    params_file()
    order: list[str] = []

    def work(params: Params) -> None:
        order.append(f"work, seed {params.seed}")

    with pytest.raises(SystemExit) as ended:
        run_stage(work, before=lambda params: order.append(f"before, seed {params.seed}"))
    assert ended.value.code == 0
    assert order == ["before, seed 42", "work, seed 42"]
    assert capsys.readouterr().err == ""


def test_what_a_stage_says_of_itself_is_recorded() -> None:
    params_file()
    with pytest.raises(SystemExit):
        run_stage(lambda _: {"device": "cpu", "precision": "bf16"})
    recorded = json.loads(paths.PROVENANCE.read_text(encoding="utf-8"))["stages"]["<lambda>"]
    assert (recorded["device"], recorded["precision"]) == ("cpu", "bf16")
