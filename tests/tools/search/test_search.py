"""`bert-lora search` as a user runs it: to the end, killed, stopped, and by several workers."""

from __future__ import annotations

import csv
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import optuna
import pytest
from optuna.study import Study
from optuna.trial import TrialState
from ruamel.yaml import YAML

from stages.core import paths
from stages.core.params import Params, load_params
from stages.reporting.search_records import read_search
from stages.tools.search.storage import open_storage
from stages.tools.search.study import DONE
from tests.support import postgres
from tests.support.command import Command
from tests.support.small_project import bert_lora
from tests.support.tiny import ROOT, changed, save_params

SPACE = {
    "train.learning_rate": {"low": 0.002, "high": 0.03, "log": True},
    "lora.r": {"choices": [2, 4, 8]},
}


@pytest.fixture
def searchable(project: Path, params: Params) -> Path:
    """Work in a finished project that `bert-lora` takes for one, with a small space."""
    save_params(changed(params, train__epochs=1, search=SPACE))
    shutil.copy(ROOT / "dvc.yaml", project)
    (project / "stages").symlink_to(ROOT / "stages")
    return project


def start(*arguments: str) -> subprocess.Popen[str]:
    """Start a search in a process group of its own, as a terminal does."""
    return subprocess.Popen(
        [sys.executable, "-m", "stages.tools.cli", "search", *arguments],
        env={**os.environ, "PYTHONPATH": str(ROOT), "COLUMNS": "120"},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


def study_in(url: str | None = None, finals: bool = False) -> Study | None:
    """Return the one study of a storage, or its finals, None if it is not there yet."""
    if url is None and not (paths.STUDIES / "journal.log").exists():
        return None
    storage = open_storage(url)
    names = [study.study_name for study in storage.get_all_studies()]
    wanted = [name for name in names if name.endswith("-finals") == finals]
    return optuna.load_study(study_name=wanted[0], storage=storage) if wanted else None


def finished(url: str | None = None) -> dict[int, float]:
    """Return the loss of each trial that is done, by its number."""
    study = study_in(url)
    trials = study.get_trials(states=DONE) if study else []
    return {trial.number: trial.user_attrs["loss"] for trial in trials}


def wait_for(process: subprocess.Popen[str], number: int) -> dict[int, float]:
    """Wait until so many trials are done, and return them."""
    deadline = time.monotonic() + 300
    while len(done := finished()) < number:
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.2)
    return done


def workers_alive() -> list[int]:
    """Return the processes that work in this folder."""
    here = str(Path.cwd())
    alive = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            command = (folder / "cmdline").read_bytes()
            if b"search.worker" in command and str((folder / "cwd").readlink()) == here:
                alive.append(int(folder.name))
        except OSError:
            continue
    return alive


def rows() -> list[dict[str, str]]:
    with paths.SEARCH_TABLE.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def test_a_search_ends_with_a_verdict_and_a_second_call_has_nothing_to_do(
    searchable: Path,
) -> None:
    arguments = ("search", "3", "--top", "1", "--seeds", "1")
    test_rows = paths.TEST.read_bytes()
    paths.TEST.unlink()
    first = bert_lora(*arguments)
    assert first.returncode == 0, first.stderr
    table, found = paths.SEARCH_TABLE.read_bytes(), paths.SEARCH.read_bytes()
    assert [(row["phase"], row["state"]) for row in rows()] == [
        *[("search", "complete")] * 3,
        *[("final", "complete")] * 2,
    ]
    # The first trial has the settings of params.yaml.
    assert (rows()[0]["lora.r"], rows()[0]["train.learning_rate"]) == ("4", "0.01")
    assert {row["seed"] for row in rows()[:3]} == {"42"}
    assert {row["seed"] for row in rows()[3:]} == {"43"}
    content = json.loads(found)
    assert content["verdict"] in first.stdout
    assert len(content["finalists"]) == 2
    for path in content["best"] or ():
        assert f" -S {path}=" in first.stdout

    second = bert_lora(*arguments, "--apply")
    assert second.returncode == 0, second.stderr
    assert "3 trials done before" in second.stdout
    assert "trial 0" not in second.stdout
    assert (paths.SEARCH_TABLE.read_bytes(), paths.SEARCH.read_bytes()) == (table, found)
    after = load_params().model_dump()
    for path, value in (content["best"] or {}).items():
        section, _, key = path.partition(".")
        assert after[section][key] == value
    paths.TEST.write_bytes(test_rows)
    search = read_search()
    assert search is not None
    assert searchable.exists()


@pytest.mark.slow
@pytest.mark.usefixtures("searchable")
def test_a_search_that_is_killed_three_times_loses_no_finished_trial() -> None:
    known: dict[int, float] = {}
    for kills in range(1, 4):
        process = start("6", "--top", "1", "--seeds", "1")
        known |= wait_for(process, len(known) + 1)
        process.kill()
        process.wait()
        deadline = time.monotonic() + 30
        while workers_alive() and time.monotonic() < deadline:
            time.sleep(0.1)
        assert workers_alive() == [], f"a worker outlives kill {kills}"
    last = bert_lora("search", "6", "--top", "1", "--seeds", "1")
    assert last.returncode == 0, last.stderr
    after = finished()
    assert len(after) == 6
    assert known.items() <= after.items()
    study = study_in()
    assert study is not None
    assert not study.get_trials(states=(TrialState.RUNNING, TrialState.WAITING))


@pytest.mark.slow
@pytest.mark.usefixtures("searchable")
def test_an_interrupt_ends_with_the_best_so_far() -> None:
    process = start("50")
    known = wait_for(process, 1)
    os.killpg(process.pid, signal.SIGINT)  # as a terminal does
    output, errors = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "best so far: validation log loss" in output
    assert "Traceback" not in errors
    assert workers_alive() == []
    assert len(rows()) >= len(known)
    again = bert_lora("search", str(len(finished()) + 1), "--top", "1", "--seeds", "1")
    assert again.returncode == 0, again.stderr
    assert known.items() <= finished().items()


@pytest.mark.slow
@pytest.mark.usefixtures("searchable")
def test_the_time_that_is_up_ends_it(params: Params) -> None:
    save_params(changed(params, train__epochs=100, train__patience=0, search=SPACE))
    begin = time.monotonic()
    done = bert_lora("search", "500", "--minutes", "0.5")
    assert done.returncode == 0, done.stderr
    assert time.monotonic() - begin < 90  # half a minute, and what it takes to start and stop
    assert "the same command goes on" in done.stdout or "no trial is complete" in done.stdout


@pytest.mark.slow
@pytest.mark.usefixtures("searchable")
def test_two_workers_on_one_journal_give_every_trial_once() -> None:
    done = bert_lora("search", "6", "--workers", "2", "--top", "2", "--seeds", "2")
    assert done.returncode == 0, done.stderr
    assert len(finished()) == 6
    check_finals(study_in(finals=True), 6)


@pytest.mark.slow
@pytest.mark.skipif(postgres.programs() is None, reason="PostgreSQL is not installed")
@pytest.mark.usefixtures("searchable")
def test_two_machines_on_one_postgresql_give_every_trial_once() -> None:
    with postgres.server() as url:
        arguments = ("6", "--storage", url, "--top", "2", "--seeds", "2")
        machines = [start(*arguments) for _ in range(2)]
        for machine in machines:
            output, errors = machine.communicate(timeout=600)
            assert machine.returncode == 0, output + errors
        assert len(finished(url)) == 6
        check_finals(study_in(url, finals=True), 6)
        hosts = study_in(url)
        assert hosts is not None
        assert len({t.user_attrs["worker"]["pid"] for t in hosts.get_trials(states=DONE)}) > 1


def check_finals(finals: Study | None, wanted: int) -> None:
    assert finals is not None
    keys = [(json.dumps(t.user_attrs["changes"], sort_keys=True), t.user_attrs["seed"])
            for t in finals.get_trials(states=(TrialState.COMPLETE,))]  # fmt: skip
    states = [(t.number, t.state.name, t.user_attrs.get("reason")) for t in finals.trials]
    assert len(keys) == len(set(keys)) == wanted, states


@pytest.mark.usefixtures("searchable")
@pytest.mark.parametrize(
    ("arguments", "code", "fault"),
    [
        (("0",), 2, "bert-lora search: Invalid value for 'N'"),
        (("3", "--space", "none.yaml"), 2, "none.yaml: not found"),
        (
            ("3", "-S", "search.lora.rank={choices: [1]}"),
            2,
            "params.yaml: search.lora.rank: no such",
        ),
        (("3", "-S", "search.train.learning_rate={low: 1, high: 0.1}"), 2, "low 1 is not below"),
        (("3", "-S", "search.lora.r={low: 1, high: 4000}"), 2, "4000 is refused: lora.r is an"),
        (("3", "--storage", "postgresql://127.0.0.1:1/x"), 5, "does not answer"),
        (("3", "--storage", "params.yaml/journal"), 5, "a file is where a folder belongs"),
        (("3", "--storage", "nosuch://x"), 2, "--storage: nosuch://x"),
    ],
)
def test_a_mistake_is_one_line_before_the_first_trial(
    command: Command, arguments: tuple[str, ...], code: int, fault: str
) -> None:
    result = command("search", *arguments)
    assert result.code == code
    assert fault in result.err
    assert result.err.count("\n") == 1
    assert not list(paths.STUDIES.glob("worker-*"))


@pytest.mark.usefixtures("searchable")
def test_a_study_of_other_data_is_one_line(command: Command, params: Params) -> None:
    from stages.tools.search.space import check_space
    from stages.tools.search.study import inputs_of, open_study

    own = load_params()
    inputs: dict[str, Any] = inputs_of(own, check_space(own.search, own, "search"))
    open_study(open_storage(None), "mine", inputs | {"data": "other"})
    result = command("search", "3", "--study", "mine")
    assert result.code == 3
    assert "study mine: belongs to other data" in result.err
    assert YAML(typ="safe").load(paths.PARAMS)["lora"]["r"] == params.lora.r
