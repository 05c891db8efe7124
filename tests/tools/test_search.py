"""`bert-lora search` as a user runs it: to the end, killed, stopped, and by several processes."""

import csv
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import optuna
import pandas as pd
import pytest
from optuna.study import Study
from optuna.trial import TrialState

from stages.core import paths
from stages.core.errors import NumericsError
from stages.core.params import Params, load_params
from stages.model.device import resolve, set_up
from stages.tools import search as module
from stages.tools.search import DONE, Finalist, Search, Trainings, apply, open_storage, verdict_of
from stages.tools.search_space import OWN_STORAGE, read_settings, value_at
from stages.train_lora import train_lora
from stages.training import data
from tests.support import postgres
from tests.support.bad_params import LINES, SHIPPED, line_of
from tests.support.command import Command
from tests.support.small_project import bert_lora
from tests.support.tiny import COMPUTE, ROOT, changed, save_params
from tests.tools.test_search_space import options

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


def studies(url: str = OWN_STORAGE) -> list[Study]:
    """Return the one study of a storage and its finals, nothing if they are not there yet."""
    if url == OWN_STORAGE and not (paths.STUDIES / "studies.db").exists():
        return []
    storage = open_storage(url)
    names = sorted(study.study_name for study in storage.get_all_studies())
    return [optuna.load_study(study_name=name, storage=storage) for name in names]


def finished(url: str = OWN_STORAGE) -> dict[int, float]:
    """Return the last loss of each trial that is done, by its number."""
    trials = studies(url)[0].get_trials(states=DONE) if studies(url) else []
    return {trial.number: trial.values[0] for trial in trials}


def wait_for(process: subprocess.Popen[str], number: int) -> dict[int, float]:
    """Wait until so many trials are done, and return them."""
    deadline = time.monotonic() + 300
    while len(done := finished()) < number:
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.2)
    return done


def rows() -> list[dict[str, str]]:
    with paths.SEARCH_TABLE.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


@pytest.mark.usefixtures("searchable")
def test_a_search_ends_with_a_verdict_and_a_second_call_has_nothing_to_do() -> None:
    arguments = ("search", "3", "--top", "1", "--seeds", "1")
    paths.TEST.unlink()
    first = bert_lora(*arguments)
    assert (first.returncode, first.stderr) == (0, "")
    assert "5 trainings to come: 3 trials, and 2 of the finals" in first.stdout
    table, found = paths.SEARCH_TABLE.read_bytes(), paths.SEARCH.read_bytes()
    assert [(row["phase"], row["state"]) for row in rows()] == [
        *[("search", "complete")] * 3,
        *[("final", "complete")] * 2,
    ]
    # The first trial has the settings of params.yaml.
    assert (rows()[0]["lora.r"], rows()[0]["train.learning_rate"]) == ("4", "0.01")
    assert [row["seed"] for row in rows()] == [*["42"] * 3, *["43"] * 2]
    content = json.loads(found)
    assert content["verdict"] in first.stdout
    assert content["settings"]["lora"]["r"] == 4
    assert content["precision"] == "fp32"
    assert len(content["finalists"]) == 2
    for path in content["best"]:
        assert f" -S {path}=" in first.stdout

    second = bert_lora(*arguments, "--apply")
    assert second.returncode == 0, second.stderr
    assert "3 trials done before" in second.stdout
    assert "0 trainings to come" in second.stdout
    assert "trial 0" not in second.stdout
    assert (paths.SEARCH_TABLE.read_bytes(), paths.SEARCH.read_bytes()) == (table, found)
    after = load_params()
    for path, value in content["best"].items():
        assert value_at(after, path) == value


@pytest.mark.usefixtures("searchable")
@pytest.mark.parametrize(
    ("arguments", "code", "fault"),
    [
        (("0",), 2, "bert-lora search: Invalid value for 'N'"),
        (("3", "-S", "search.lora.rank={choices: [1]}"), 2, "params.yaml: search.lora.rank: no"),
        (("3", "-S", "data.limit=30"), 2, "first run: dvc exp run -S data.limit=30 prepare"),
        (("3", "--storage", "postgresql://me:hidden@127.0.0.1:1/x"), 5, "me:***@127.0.0.1:1/x does not answer"),  # pragma: allowlist secret # noqa: E501  # a row of the table
        (("3", "--storage", "params.yaml"), 5, "file is not a database"),
        (("3", "--storage", "nosuch://x"), 2, "--storage: "),
        (("3", "--storage", "x://h:port/y"), 2, "--storage: invalid literal"),
    ],
)  # fmt: skip
def test_a_mistake_is_one_line_before_the_first_trial(
    command: Command, arguments: tuple[str, ...], code: int, fault: str
) -> None:
    result = command("search", *arguments)
    assert (result.code, result.err.count("\n")) == (code, 1), result.err
    assert fault in result.err
    assert "hidden" not in result.err


@pytest.mark.slow
@pytest.mark.usefixtures("searchable")
def test_a_search_that_is_killed_three_times_loses_no_finished_trial() -> None:
    known: dict[int, float] = {}
    for _ in range(3):
        process = start("6", "--top", "1", "--seeds", "1")
        known |= wait_for(process, len(known) + 1)
        process.kill()
        process.wait()
    last = bert_lora("search", "6", "--top", "1", "--seeds", "1")
    assert last.returncode == 0, last.stderr
    assert len(finished()) == 6
    assert known.items() <= finished().items()
    study = studies()[0]
    assert not study.get_trials(states=(TrialState.RUNNING, TrialState.WAITING))
    stopped = study.get_trials(states=(TrialState.FAIL,))
    assert len({str(trial.params) for trial in study.trials}) == len(study.trials) - len(stopped)


@pytest.mark.slow
@pytest.mark.usefixtures("searchable")
@pytest.mark.parametrize("signal_number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupt_ends_with_the_best_so_far(signal_number: int) -> None:
    process = start("50", "--workers", "2")
    known = wait_for(process, 2)
    children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
    lines = [Path(f"/proc/{child}/cmdline").read_bytes() for child in children]
    assert sum(b"spawn_main" in line for line in lines) == 1  # beside the first of two workers
    another = bert_lora("search", "50")
    assert (another.returncode, "running already" in another.stderr) == (5, True)
    os.killpg(process.pid, signal_number)  # as a terminal does
    output, errors = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "best so far: validation log loss" in output
    assert errors.strip() == "interrupted"
    assert len(rows()) >= len(known)
    again = bert_lora("search", str(len(finished()) + 1), "--top", "1", "--seeds", "1")
    assert again.returncode == 0, again.stderr
    assert known.items() <= finished().items()


@pytest.mark.slow
@pytest.mark.usefixtures("searchable")
@pytest.mark.parametrize(
    "kind",
    [
        "sqlite",
        pytest.param(
            "postgresql",
            marks=pytest.mark.skipif(postgres.programs() is None, reason="no PostgreSQL here"),
        ),
    ],
)
def test_several_processes_share_a_study(kind: str) -> None:
    def check(url: str, arguments: tuple[str, ...], count: int) -> None:
        processes = [start("6", *arguments, "--top", "2", "--seeds", "2") for _ in range(count)]
        for process in processes:
            output, errors = process.communicate(timeout=600)
            assert process.returncode == 0, output + errors
        search, finals = studies(url)
        assert 6 <= len(search.get_trials(states=DONE)) <= 7  # two may take the last one
        done = finals.get_trials(states=(TrialState.COMPLETE,))
        keys = [(str(t.user_attrs["changes"]), t.user_attrs["seed"]) for t in done]
        assert len(set(keys)) == 6
        assert len(keys) <= 7

    if kind == "sqlite":
        check(OWN_STORAGE, ("--workers", "2"), 1)
    else:
        with postgres.server() as url:
            check(url, ("--storage", url), 2)


@pytest.mark.usefixtures("project")
@pytest.mark.parametrize("method", ["lora", "full"])
@pytest.mark.parametrize(("ema", "select"), [(0.0, "loss"), (0.9, "scaled_loss")])
def test_a_training_reaches_what_the_stage_reaches(
    params: Params, method: str, ema: float, select: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(data, "ROWS_TO_CHOOSE", 1)
    params = changed(params, train__method=method, train__ema_decay=ema, train__select_by=select)
    train_lora(params)
    curve = pd.read_csv(paths.TRAINING_CURVES / "validation.csv")
    best = curve.sort_values(select).iloc[0]
    paths.TEST.unlink()  # a trial has no use for it
    shutil.rmtree(paths.HEAD)
    reported: list[tuple[float, int]] = []
    trainings = Trainings(set_up(COMPUTE))
    for _ in range(2):  # what the first one cached serves the second
        reported.clear()
        facts = trainings.run(params, lambda *step: reported.append(step))
        assert facts["loss"] == pytest.approx(best[select], rel=1e-5)
        assert facts["accuracy"] == pytest.approx(best["accuracy"], rel=1e-5)
        assert facts["epochs"] == pytest.approx(best["epoch"], abs=1e-3)
        assert np.mean(facts["losses"]) == pytest.approx(facts["loss"], rel=1e-4)
        losses, numbers = zip(*reported, strict=True)
        assert list(losses) == pytest.approx(list(curve[select]), rel=1e-5)
        assert numbers == (1, 2, 3, 4)
    assert not any(paths.CHECKPOINTS.glob("checkpoint-*"))


@pytest.mark.usefixtures("project")
def test_each_pooling_penalty_and_seed_has_its_own_head(params: Params) -> None:
    trainings = Trainings(set_up(COMPUTE))
    settings: list[dict[str, Any]] = [
        *({}, {"model__pooling": "first"}, {"head__l2": [0.1]}, {"seed": 7})
    ]
    heads = [trainings._head_of(changed(params, **values)) for values in settings]
    assert len({str(head["classifier.weight"].tolist()) for head in heads}) == 4
    assert len(trainings._features) == 2


@pytest.fixture
def search_with(
    searchable: Path,  # noqa: ARG001  # the folder it works in
    monkeypatch: pytest.MonkeyPatch,
) -> Callable[..., Search]:
    """Return a function that opens the search whose trainings are a function of the params."""

    def open_search(
        losses: Callable[[Params], Any], is_first: bool = True, **values: Any
    ) -> Search:
        def run(params: Params, report: module.Report) -> dict[str, Any]:
            reported = list(losses(params))
            for step, loss in enumerate(reported, start=1):
                report(loss, step)
            rows = [min(reported)] * 5
            return {"loss": min(reported), "accuracy": 0.5, "losses": rows, "seconds": 2.0}

        typed = options(**{"trials": 12, "storage": OWN_STORAGE, **values})
        search = Search(typed, read_settings(typed), is_first)
        monkeypatch.setattr(search.trainings, "run", run)
        return search

    return open_search


def test_the_pruner_compares_trials_of_other_batch_sizes(
    search_with: Callable[..., Search], params: Params
) -> None:
    batches = {"train.batch_size": {"choices": [16, 32]}}
    save_params(changed(params, search=batches))

    def losses(params: Params) -> Any:
        hopeless = len(seen) > 6 and params.train.batch_size == 16
        seen.append(params.train.batch_size)
        return [5.0] * 4 if hopeless else [0.33, 0.32, 0.31, 0.3]

    seen: list[int] = []
    search = search_with(losses)
    search.work()
    pruned = search.study.get_trials(states=(TrialState.PRUNED,))
    assert pruned
    assert {tuple(trial.intermediate_values) for trial in pruned} == {(1,)}


def test_trials_that_fail_or_stop_have_a_reason_or_run_again(
    search_with: Callable[..., Search],
) -> None:
    ends: list[BaseException | None] = [None, NumericsError("not finite", "x"), KeyboardInterrupt()]

    def losses(params: Params) -> list[float]:
        end = ends.pop(0) if ends else None
        if end:
            raise end
        return [1 / params.lora.r]

    search = search_with(losses, trials=4)
    search._queue_defaults()
    with pytest.raises(KeyboardInterrupt):
        search.work()
    search._queue_defaults()
    search = search_with(losses, trials=4)
    search.work()
    states = [trial.state for trial in search.study.trials]
    failed, stopped = search.study.get_trials(states=(TrialState.FAIL,))
    assert states.count(TrialState.COMPLETE) == 4
    assert failed.user_attrs["reason"] == "not finite"
    assert stopped.params in [trial.params for trial in search.study.trials[stopped.number + 1 :]]
    assert search.study.trials[0].user_attrs["changes"] == {}
    # The finals: the defaults and the best other setting, over two seeds each.
    assert [(f.changes == {}, f.seeds) for f in search.results()] in (
        [[(False, [43, 44]), (True, [43, 44])], [(True, [43, 44]), (False, [43, 44])]]
    )


def test_a_search_that_goes_on_does_not_repeat_what_was_suggested(
    search_with: Callable[..., Search],
) -> None:
    for number in (3, 6, 9):
        search_with(lambda params: [1 / params.lora.r], trials=number, seeds=1).work()
    trials = search_with(lambda _: [1.0]).study.trials
    assert len({trial.params["train.learning_rate"] for trial in trials}) == 9


def test_a_study_has_one_data_one_precision_and_one_device(
    search_with: Callable[..., Search],
) -> None:
    search = search_with(lambda _: [1.0])
    settings, device = search.settings, search.trainings.device
    other = resolve(COMPUTE.model_copy(update={"precision": "bf16"}))
    names = [module.name_of(settings, each) for each in (device, other)]
    paths.TRAIN.write_bytes(paths.TRAIN.read_bytes() + b" ")
    names.append(module.name_of(settings, device))
    assert names[0] == search.study.study_name
    assert len(set(names)) == 3


def test_the_time_that_is_up_stops_a_training_and_leaves_it_to_the_next_call(
    search_with: Callable[..., Search], capsys: pytest.CaptureFixture[str]
) -> None:
    def losses(_: Params) -> list[float]:
        time.sleep(0.1)
        return [0.3, 0.2]

    search_with(losses, minutes=0.001).lead()
    assert "0 min at most" in capsys.readouterr().out.replace("0.001", "0")
    assert json.loads(paths.SEARCH.read_bytes())["best"] is None
    assert not finished() or rows()[0]["state"] == "pruned"


def test_values_outside_the_space_are_no_trial(
    search_with: Callable[..., Search], capsys: pytest.CaptureFixture[str]
) -> None:
    search = search_with(lambda _: [1.0], overrides=["lora.r=16"])
    search._queue_defaults()
    assert not search.study.trials
    assert "outside the space" in capsys.readouterr().out


def finalist(losses: list[float], rows: Any, **changes: Any) -> Finalist:
    accuracies = [0.8] * len(losses)
    seeds = list(range(43, 43 + len(losses)))
    return Finalist(changes, 0.2 if changes else None, seeds, losses, accuracies, rows)


def drawn(random: np.random.Generator, gain: float = 0.0, **changes: Any) -> Finalist:
    """Return a finalist whose rows and seeds spread as in a recorded search of the project."""
    base = np.random.default_rng(0).exponential(0.3, 1057) - gain
    rows = base + random.normal(0, 0.1, (3, 1057)) + random.normal(0, 0.005, (3, 1))
    return finalist(rows.mean(axis=1).tolist(), rows.mean(axis=0), **changes)


@pytest.mark.parametrize("others", [1, 2, 4])
def test_equal_settings_are_seldom_told_apart_and_better_ones_are(others: int) -> None:
    random = np.random.default_rng(others)

    def told(gain: float) -> bool:
        found = [drawn(random, gain, r=number) for number in range(others)]
        results = sorted([drawn(random), *found], key=lambda one: float(np.mean(one.losses)))
        return ", distinguishable" in verdict_of(results)

    assert sum(told(0.0) for _ in range(300)) <= 15  # 2.5 % of 300, and three sd of chance
    assert sum(told(0.05) for _ in range(50)) >= 45


def test_the_verdict_names_what_it_rests_on() -> None:
    rows = np.random.default_rng(0).exponential(0.3, 1000)
    # As recorded: 0.0099 lower, over two seeds of three settings.
    results = [
        finalist([0.30046, 0.296634], rows - 0.0099, r=32),
        finalist([0.312845, 0.303985], rows),
        finalist([0.311449, 0.318447], rows + 0.006, r=8),
    ]
    assert ", not distinguishable from the defaults" in verdict_of(results)
    assert "over 2 seeds and 1,000 validation rows" in verdict_of(results)
    assert verdict_of(results[1:]) == "no setting of the search beats the defaults on validation"


@pytest.mark.guard("verdict of one seed")
def test_one_seed_gives_no_verdict() -> None:
    rows = np.random.default_rng(0).exponential(0.3, 1000)
    verdict = verdict_of([finalist([0.1], rows - 0.2, r=32), finalist([0.3], rows)])
    assert "with one seed, from which nothing follows" in verdict
    assert "distinguishable" not in verdict


@pytest.mark.usefixtures("tmp_cwd")
@pytest.mark.parametrize(
    ("path", "value", "typed"),
    [
        ("seed", 7, "7"),
        ("train.learning_rate", 5e-05, "5e-05"),
        ("lora.target_modules", ["query", "value"], '["query", "value"]'),
        ("lora.modules_to_save", None, "null"),
        ("lora.use_dora", True, "true"),
        ("train.schedule", "cosine", "cosine"),
    ],
)
def test_one_value_changes_and_no_other_line(path: str, value: Any, typed: str) -> None:
    paths.PARAMS.write_text(SHIPPED, encoding="utf-8")
    apply({path: value})
    lines, at = paths.PARAMS.read_text(encoding="utf-8").split("\n"), line_of(path)
    assert lines[:at] + lines[at + 1 :] == SHIPPED.split("\n")[:at] + SHIPPED.split("\n")[at + 1 :]
    assert lines[at] == f"{LINES[at].partition(':')[0]}: {typed}"
    assert value_at(load_params(), path) == value
