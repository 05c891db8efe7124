"""The storage: half a line of a killed process, its lock, what is none, and no answer."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import optuna
import pytest
from optuna.study import Study
from optuna.trial import TrialState

from stages.core.errors import HostError, ParamsError, UserError
from stages.tools.search import storage as module
from stages.tools.search.storage import open_storage
from stages.tools.search.study import open_study

JOURNAL = Path("journal.log")


@pytest.fixture
def study(tmp_cwd: Path) -> Study:  # noqa: ARG001  # the folder that the journal is in
    return again()


def again() -> Study:
    """Return the study as another process sees it."""
    return open_study(open_storage(str(JOURNAL)), None, {})


@pytest.mark.guard("half a line of the journal")
@pytest.mark.parametrize("cut", [1, 20])
def test_half_a_line_of_a_killed_process_costs_nothing_that_was_finished(
    study: Study, cut: int
) -> None:
    study.tell(study.ask(), 0.5)
    whole = JOURNAL.read_bytes()
    study.ask()
    lost = JOURNAL.read_bytes()
    JOURNAL.write_bytes(lost[: len(whole) + cut])  # the process was killed in this line
    next_one = again()
    next_one.tell(next_one.ask(), 0.25)
    losses = [trial.value for trial in again().trials if trial.state is TrialState.COMPLETE]
    assert losses == [0.5, 0.25]
    assert JOURNAL.read_bytes().startswith(whole)
    assert JOURNAL.read_bytes().endswith(b"\n")


def test_the_lock_of_a_killed_process_is_free(study: Study) -> None:
    code = (
        "import os, signal; from pathlib import Path;"
        "from stages.tools.search.storage import Journal;"
        "journal = Journal(Path('journal.log')); journal._lock.acquire();"
        "os.kill(os.getpid(), signal.SIGKILL)"
    )
    root = Path(__file__).parents[3]
    subprocess.run([sys.executable, "-c", code], env={**os.environ, "PYTHONPATH": str(root)})
    study.tell(study.ask(), 1.0)  # without waiting for a grace period
    assert len(again().trials) == 1


@pytest.mark.usefixtures("tmp_cwd")
@pytest.mark.parametrize(
    ("url", "kind", "fault"),
    [
        ("nosuch://host/name", ParamsError, "--storage: nosuch://host/name"),
        ("postgresql://", HostError, "does not answer"),
        (
            "postgresql://me:secret@127.0.0.1:1/x",  # pragma: allowlist secret
            HostError,
            r"me:\*\*\*@127\.0\.0\.1:1/x does not",
        ),
        ("sqlite:////nowhere/at/all.db", HostError, "does not answer: .*unable to open"),
    ],
)
def test_a_storage_that_is_none_or_does_not_answer_is_one_line(
    url: str, kind: type[UserError], fault: str
) -> None:
    with pytest.raises(kind, match=fault) as caught:
        open_storage(url)
    assert "secret" not in str(caught.value)
    assert str(caught.value).count("\n") == 0


@pytest.mark.usefixtures("tmp_cwd")
def test_a_journal_that_is_none_or_cannot_be_written_is_reported() -> None:
    Path("notes.txt").write_text("hello\nworld\n", encoding="utf-8")
    with pytest.raises(HostError, match=r"notes\.txt: not a journal of Optuna"):
        open_storage("notes.txt")
    with pytest.raises(FileExistsError):  # `exit_codes` makes one line of it
        open_storage("notes.txt/journal.log")


def test_a_storage_that_comes_back_is_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    tries: list[float] = []
    monkeypatch.setattr(time, "sleep", tries.append)

    def work() -> str:
        if len(tries) < 3:
            raise optuna.exceptions.StorageInternalError("away")
        return "here"

    assert module.patiently(work) == "here"
    assert tries == [1.0, 2.0, 4.0]
    monkeypatch.setattr(module, "PATIENCE", -1.0)
    tries.clear()
    with pytest.raises(HostError, match="does not answer: away"):
        module.patiently(work)
