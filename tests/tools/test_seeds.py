"""`bert-lora seeds`: real experiments, taken up where they were left, and their figures."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from stages.core import paths
from stages.core.errors import HostError, ParamsError
from stages.core.params import HeadParams, load_params
from stages.reporting.records import settings_of
from stages.tools import seeds
from stages.tools.compare import Run
from stages.tools.seeds import experiments_of_head, state_of
from tests.support.predictions import frame
from tests.support.small_project import bert_lora, run_successfully, set_param
from tests.support.tiny import ROOT

MADE_OF = {"training rows": "a", "base": "b", "code": "c"}
# Says that it runs, and takes longer to end than a parent that kills its child would wait.
LINGER = """
import signal, sys, time
try:
    print("started", flush=True)
    time.sleep(60)
except KeyboardInterrupt:
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    time.sleep(2)
    print("cleared up", flush=True)
    sys.exit(1)
"""


def start_bert_lora(*arguments: str) -> subprocess.Popen[str]:
    """Start the command in a process group of its own; its output is one stream."""
    return subprocess.Popen(
        [sys.executable, "-m", "stages.tools.cli", *arguments],
        env={**os.environ, "PYTHONPATH": str(ROOT), "COLUMNS": "120"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        start_new_session=True,
        text=True,
    )


@pytest.mark.usefixtures("_inside")
@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("0",), "N"),
        (("2", "-S", "seed=3"), "any param of params.yaml but seed"),
        (("2", "-S", "lora.r"), "give KEY=VALUE"),
        (("2", "-S", "++seed=3"), "any param of params.yaml but seed"),
        (("2", "-S", "params.yaml:seed=3"), "any param of params.yaml but seed"),
    ],
)
def test_a_mistake_is_one_line(arguments: tuple[str, ...], message: str) -> None:
    done = bert_lora("seeds", *arguments)
    assert done.returncode == 2
    assert message in done.stderr
    assert len(done.stderr.splitlines()) == 1


def test_a_run_of_another_seed_or_other_settings_is_refused() -> None:
    params = load_params(ROOT / paths.PARAMS)
    table = frame([True, False])
    other = params.model_copy(update={"seed": 2, "head": HeadParams(l2=[0.5])})
    run = Run(params.model_copy(update={"seed": 1}), "fp32", MADE_OF, table, table)
    second = params.model_copy(update={"seed": 2})
    for faulty, what in (
        (Run(run.params, "fp32", MADE_OF, table, table), "seed"),
        (Run(other, "fp32", MADE_OF, table, table), "settings"),
        (Run(second, "bf16", MADE_OF, table, table), "precision"),
        (Run(second, "fp32", {**MADE_OF, "training rows": "z"}, table, table), "training rows"),
    ):
        with pytest.raises(ParamsError, match=rf"seed 2: made otherwise than the first .*{what}"):
            seeds.summarise({1: run, 2: faulty})
    record = seeds.summarise({1: run, 2: Run(second, "fp32", MADE_OF, table, table)})
    assert (record["settings"], record["precision"]) == (settings_of(params), "fp32")
    assert record["made_of"] == MADE_OF


def read_records_of(folder: Path) -> list[dict[str, Any]]:
    content: list[dict[str, Any]] = json.loads((folder / paths.SEEDS).read_text(encoding="utf-8"))
    return content


@pytest.mark.slow
@pytest.mark.usefixtures("_inside")
def test_seeds_are_experiments_and_a_second_call_goes_on() -> None:
    first = bert_lora("seeds", "2")
    assert first.returncode == 0, first.stderr
    assert first.stdout.count("running") == 2
    names = run_successfully("dvc", "exp", "list", "--name-only").split()
    assert len(names) == 2
    assert all(name.startswith("seeds-") for name in names)
    assert (
        run_successfully("git", "status", "--porcelain", "-uno") == ""
    )  # the workspace is as it was

    again = bert_lora("seeds", "3")
    assert again.stdout.count("done before") == 2
    assert again.stdout.count("running") == 1
    (record,) = read_records_of(Path())
    assert record["seeds"] == [1, 2, 3]
    assert record["accuracy_base"][0] == record["accuracy_base"][1]
    assert len(set(record["accuracy_adapter"])) > 1
    found = bert_lora("compare", names[0], names[1], "--json")
    pair = json.loads(found.stdout)
    assert {pair["first"], pair["second"]} <= set(record["accuracy_adapter"])

    other = bert_lora("seeds", "1", "-S", "train.learning_rate=0.0005")
    assert other.returncode == 0, other.stderr
    assert len(read_records_of(Path())) == 2


@pytest.mark.slow
@pytest.mark.usefixtures("_inside")
def test_an_interrupt_lets_dvc_clear_up_and_leaves_no_traceback() -> None:
    with Path("make.py").open("a", encoding="utf-8") as script:
        script.write(LINGER)
    process = start_bert_lora("seeds", "1")
    assert process.stdout is not None
    while "started" not in process.stdout.readline():
        assert process.poll() is None
    os.killpg(process.pid, signal.SIGINT)  # as a terminal does
    output = process.stdout.read()
    assert process.wait() == 130
    assert "cleared up" in output
    assert "interrupted: the same command continues from here" in output
    assert "Traceback" not in output
    assert list(Path(".dvc/tmp/exps/standalone").glob("tmp*")) == []


@pytest.mark.slow
@pytest.mark.usefixtures("_inside")
def test_a_change_between_two_seeds_stops_it(monkeypatch: pytest.MonkeyPatch) -> None:
    def run_and_edit(name: str, number: int, overrides: tuple[str, ...]) -> None:
        original(name, number, overrides)
        set_param("  weight_decay: 0.01", "  weight_decay: 0.02")

    original = seeds.run
    monkeypatch.setattr(seeds, "run", run_and_edit)
    with pytest.raises(HostError, match="seed 2: the project changed since the first seed"):
        seeds.seeds(load_params(), 2, ("train.learning_rate=0.0008",))


@pytest.mark.slow
@pytest.mark.usefixtures("_inside")
def test_a_run_that_fails_is_named() -> None:
    done = bert_lora("seeds", "1", "-S", "nosuch.key=1")
    assert done.returncode == 5
    assert done.stderr.splitlines()[-1].startswith("error: seed 1: its run failed, see above.")
    assert "Traceback" not in done.stderr


@pytest.fixture
def _clone(tmp_cwd: Path) -> None:
    """Make the working folder a git clone with one commit."""
    assert Path.cwd() == tmp_cwd
    run_successfully("git", "init", "-q")
    for key, value in (("user.name", "Test"), ("user.email", "test@example.org")):
        run_successfully("git", "config", key, value)
    for name in ("params.yaml", "README.md", "metrics/base.json", ".git/info/exclude"):
        Path(name).parent.mkdir(exist_ok=True)
        Path(name).write_text("data\n", encoding="utf-8")
    run_successfully("git", "add", "-A")
    run_successfully("git", "commit", "-qm", "first")


@pytest.mark.usefixtures("_clone")
@pytest.mark.parametrize(
    ("name", "counts"),
    [
        ("params.yaml", True),
        ("data/raw/mine.csv", True),  # which git does not see
        ("README.md", False),
        ("metrics/base.json", False),
    ],
)
def test_only_a_change_that_a_run_depends_on_gives_another_name(name: str, counts: bool) -> None:
    before = state_of(())
    assert state_of(("lora.r=4",)) != before == state_of(())
    Path(name).parent.mkdir(parents=True, exist_ok=True)
    Path(name).write_text("new\n", encoding="utf-8")
    first = state_of(())
    Path(name).write_text("newer\n", encoding="utf-8")
    assert len({before, first, state_of(())}) == (3 if counts else 1)


@pytest.mark.usefixtures("_clone")
def test_experiments_of_another_commit_do_not_count() -> None:
    first = run_successfully("git", "rev-parse", "HEAD").strip()
    run_successfully("git", "update-ref", f"refs/exps/{first[:2]}/{first[2:]}/seeds-1", "HEAD")
    assert experiments_of_head() == {"seeds-1"}
    run_successfully("git", "commit", "-q", "--allow-empty", "-m", "second")
    assert experiments_of_head() == set()


def test_outside_a_clone_it_is_one_line(tmp_cwd: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_cwd.parent))
    with pytest.raises(HostError, match=r"git diff: .* Fix: work in a git clone") as caught:
        state_of(())
    assert len(str(caught.value).splitlines()) == 1
