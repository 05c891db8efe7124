"""States of git and DVC: the normal ones stop nothing, and each advice keeps what is not saved."""

from pathlib import Path

import pytest

from stages.core import paths
from tests.support.faults import (
    assert_refused,
    assert_succeeded,
    bert_lora,
    call,
    dvc,
    run_fix,
    run_in_shell,
    run_successfully,
    stage,
)
from tests.support.tiny import ROOT

pytestmark = pytest.mark.usefixtures("dvc_project")
EDIT = "echo '# mine' >> params.yaml"
COMMIT = "git commit -qam"
NORMAL = {
    "a tag": "git tag v1 && git switch -q --detach v1",
    "an edit on no branch, staged": f"git switch -q --detach && {EDIT} && git add params.yaml",
    "bisect": f"{EDIT} && {COMMIT} x && {EDIT} && {COMMIT} y && git bisect start -q HEAD HEAD~2",
    "DVC stages what it writes": f"dvc config core.autostage true && {EDIT} && dvc repro -q",
    "a merge of other files": "git switch -qc a && touch a && git add a && git commit -qm a && "
    f"git switch -q - && {EDIT} && {COMMIT} b && git merge -q --no-commit a",
    "a file renamed": "git mv data/raw/.gitignore data/raw/other || git mv params.yaml x && mv x "
    "params.yaml",
    "no git": "rm -rf .git && dvc config core.no_scm true",
    "a data registry": "mkdir data/raw/registry && cd data/raw/registry && git init -q && "
    "dvc init -q && echo x > x && dvc add -q x",
    "a folder named as a .dvc file": "mkdir data/raw/old.dvc && touch data/raw/old.dvc/x",
    "a .dvc file without a hash": "printf 'outs:\\n- path: none\\n' > data/raw/none.dvc && "
    "echo x > data/raw/none",
    "a .dvc file of DVC 2": "echo x > data/raw/x && dvc add -q data/raw/x && "
    "sed -i '/hash: md5/d; /size:/d' data/raw/x.dvc",
    "a .dvc file elsewhere": "mkdir data/raw/in && echo x > data/raw/x && dvc add -q data/raw/x && "
    "sed 's/^outs/wdir: ..\\nouts/' data/raw/x.dvc > data/raw/in/x.dvc && rm data/raw/x.dvc",
}


@pytest.mark.slow
@pytest.mark.parametrize("state", NORMAL)
def test_a_normal_state_stops_nothing(state: str) -> None:
    run_in_shell(NORMAL[state])
    assert_succeeded(stage("prepare"))
    dvc("repro", "prepare")  # what lies in data/raw is its input
    assert "nothing prevents: dvc repro" in assert_succeeded(bert_lora("verify"))


def conflict(path: Path) -> None:
    """Let two branches write another first line of a file, and merge them."""
    text = path.read_text(encoding="utf-8")
    for branch, space in (("-c other", "  "), ("-", " ")):
        run_in_shell(f"git switch -q {branch}")
        mark = f"#{space}" if path.suffix in (".yaml", ".lock") else space
        path.write_text(f"{mark}\n{text}", encoding="utf-8")
        run_in_shell("git commit -qam changed")
    assert call("git", "merge", "-q", "other").returncode == 1
    assert "<<<<<<< " in path.read_text(encoding="utf-8")


@pytest.mark.parametrize("path", [paths.LOCK, paths.SEEDS])
def test_a_merge_conflict_is_named_with_the_line_that_ends_it(path: Path) -> None:
    conflict(path)
    stopped = bert_lora("verify")
    assert_refused(stopped, 5, f"error: {path}: holds the marks of a merge conflict")
    if path == paths.SEEDS:  # compare alone reads it, hours later
        assert assert_refused(stage("prepare"), 5) == stopped.stdout
    run_fix(stopped.stdout)
    dvc("repro")
    run_in_shell("git commit -qam merged")
    assert_succeeded(bert_lora("verify"))


@pytest.mark.parametrize(("path", "code"), [(paths.PARAMS, 2), (paths.PIPELINE, 5)])
def test_a_conflict_of_what_people_write_is_left_to_them(path: Path, code: int) -> None:
    conflict(path)
    assert_refused(bert_lora("verify"), code, str(path), "merge conflict", "keep one side")


def test_the_hashes_do_not_depend_on_line_endings() -> None:
    """As Git for Windows checks out."""
    attributes = run_successfully("git", "-C", str(ROOT), "check-attr", "text", "dvc.lock", "x.py")
    assert attributes.splitlines() == ["dvc.lock: text: unset", "x.py: text: unset"]


OWN = "mkdir -p data/raw/own && for n in 1 2; do echo 'text,label' > data/raw/own/$n.csv; done"


@pytest.mark.parametrize(
    ("made", "missing"),
    [
        ("true", "2 of 2 files, data/raw/own/1.csv"),
        ("dvc add -q data/raw/own/*.csv && git add data/raw/own/1.csv.dvc", "1 of 2 files"),
        ("dvc add -q data/raw/own", "2 of 2 files, data/raw/own/1.csv"),
        ("git add data/raw/own/1.csv", "1 of 2 files, data/raw/own/2.csv"),
    ],
)
def test_data_that_an_experiment_would_lack_are_named_before_it_starts(
    made: str, missing: str
) -> None:
    run_in_shell(f"{OWN} && {made}")
    place = "params.yaml: data.source: data/raw/own/*.csv: git does not know"
    seeds = ("seeds", "1", "-S", "data.source=data/raw/own/*.csv")
    stopped = bert_lora(*seeds)
    assert_refused(stopped, 5, f"error: {place} {missing}", "git add")
    run_fix(stopped.stdout)
    assert "git does not know" not in bert_lora(*seeds).stdout
