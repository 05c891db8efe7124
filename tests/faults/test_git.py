"""States of git and DVC: the normal ones stop nothing, and each advice keeps what is not saved."""

import os
import shutil
import sys
from contextlib import chdir
from pathlib import Path

import pytest

from stages.core import paths
from stages.sources.own import left_behind, own_faults
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
    up_to_date,
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
    "an experiment that was killed": "(timeout -s KILL 4 dvc exp run --temp -f prepare || true)",
    "an experiment in the queue": "dvc exp run -q --queue -S train.epochs=1",
    "no git": "rm -rf .git && dvc config core.no_scm true",
    "a data registry": "mkdir data/raw/registry && cd data/raw/registry && git init -q && "
    "dvc init -q && echo x > x && dvc add -q x",
    "a registry in a registry": "mkdir -p data/raw/a/b && cd data/raw/a && git init -q && dvc init "
    "-q && cd b && dvc init -q --subdir && echo x > x && dvc add -q x",
    "a folder named as a .dvc file": "mkdir data/raw/old.dvc && touch data/raw/old.dvc/x",
    "a .dvc file without a hash": "printf 'outs:\\n- path: none\\n' > data/raw/none.dvc && "
    "echo x > data/raw/none",
    "a .dvc file of DVC 2": "echo x > data/raw/x && dvc add -q data/raw/x && "
    "sed -i '/hash: md5/d; /size:/d' data/raw/x.dvc",
    "a .dvc file with all that DVC knows": "echo x > data/raw/x && dvc add -q data/raw/x && "
    "printf 'desc: mine\nmeta: {a: [1]}\nfrozen: true\nmd5: abc\n' >> data/raw/x.dvc && sed -i "
    r"'s/^- md5/- desc: text\n  type: t\n  labels: [a]\n  push: false\n  md5/' data/raw/x.dvc",
    "data from another place": "echo x > ../x && dvc import-url -q $PWD/../x data/raw/x && rm ../x",
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


LEFT = (".DS_Store", "._mine.csv", "~$mine.xlsx", "mine.csv~", ".mine.csv.swp", ".#mine.csv")
AND = ("#mine.csv#", ".~lock.mine.csv#", "Thumbs.db", "desktop.ini", ".gitignore")


def test_what_desktops_and_editors_leave_changes_nothing() -> None:
    for folder in (paths.RAW, paths.RAW / "model", Path("stages/model")):
        for name in (*LEFT, *AND):
            (folder / name).write_text("x", encoding="utf-8")
    assert up_to_date()


def conflict(*files: Path) -> None:
    """Let two branches write another first line of files, and merge them."""
    texts = {path: path.read_text(encoding="utf-8") for path in files}
    for branch, space in (("-c other", "  "), ("-", " ")):
        run_in_shell(f"git switch -q {branch}")
        for path, text in texts.items():
            mark = f"#{space}" if path.suffix in (".yaml", ".lock", ".dvc") else space
            path.write_text(f"{mark}\n{text}", encoding="utf-8")
        run_in_shell("git commit -qam changed")
    assert call("git", "merge", "-q", "other").returncode == 1
    assert all("<<<<<<< " in path.read_text(encoding="utf-8") for path in files)


def test_a_merge_conflict_is_named_with_the_line_that_ends_it() -> None:
    files = (paths.LOCK, paths.BASE_METRICS, paths.COMPARISON, paths.SEEDS)  # as after two runs
    conflict(*files)
    stopped = bert_lora("verify")
    for path in files:
        assert_refused(stopped, 5, f"error: {path}: holds the marks of a merge conflict")
    # compare alone reads it, hours later
    assert_refused(stage("prepare"), 5, f"error: {paths.SEEDS}: holds the marks")
    run_fix(stopped.stdout)
    dvc("repro")
    run_in_shell("git commit -qam merged")
    assert_succeeded(bert_lora("verify"))


OWN_DVC = Path("data/raw/x.dvc")


@pytest.mark.parametrize(("path", "code"), [(paths.PARAMS, 2), (paths.PIPELINE, 5), (OWN_DVC, 5)])
def test_a_conflict_of_what_people_write_is_left_to_them(path: Path, code: int) -> None:
    if path == OWN_DVC:
        run_in_shell(
            "echo x > data/raw/x && dvc add -q data/raw/x && git add . && git commit -qm x"
        )
    conflict(path)
    if path == OWN_DVC:
        assert_succeeded(stage("prepare"))
    assert_refused(bert_lora("verify"), code, str(path), "merge conflict", "keep one side")


def test_the_hashes_do_not_depend_on_line_endings() -> None:
    """As Git for Windows checks out."""
    attributes = run_successfully("git", "-C", str(ROOT), "check-attr", "text", "dvc.lock", "x.py")
    assert attributes.splitlines() == ["dvc.lock: text: unset", "x.py: text: unset"]


OWN = "mkdir -p data/raw/own && for n in 1 2; do echo 'text,label' > data/raw/own/$n.csv; done"


def test_data_may_lie_anywhere_in_the_project() -> None:
    run_in_shell("cp data/raw/mine.csv ours.csv && dvc add -q ours.csv && git add ours.csv.dvc")
    assert left_behind([Path("ours.csv"), Path("data/raw/mine.csv").absolute()]) == ([], "")


def test_data_of_another_repository_are_to_be_copied() -> None:
    run_in_shell(f"{OWN} && git -C data/raw/own init -q")
    done = bert_lora("seeds", "1", "-S", "data.source=data/raw/own/1.csv")
    assert_refused(done, 5, "so an experiment lacks it", "copy it into data/raw")


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
    source = "data/raw/own/*.csv"
    ((what, fix),) = own_faults({"data": source})
    assert what.startswith(f"params.yaml: data.source: {source}: git does not know {missing}")
    assert "git add" in fix
    run_fix(f"error: {what}. Fix: {fix}")
    assert own_faults({"data": source}) == []


@pytest.mark.slow
def test_data_that_an_experiment_lacks_are_named_in_its_folder(dvc_project: Path) -> None:
    run_in_shell(f"{OWN} && dvc add -q data/raw/own/*.csv && git add data/raw/own/1.csv.dvc")
    source = ("-S", "data.source=data/raw/own/*.csv")
    done = call(sys.executable, "-m", "dvc", "exp", "run", "--temp", *source, "prepare")
    assert done.returncode != 0
    assert "1 of 2 files, data/raw/own/2.csv, so an experiment lacks it. Fix: " in done.stdout
    assert f"in {dvc_project} run: git add data/raw/own/2.csv.dvc" in done.stdout


@pytest.mark.slow
def test_a_folder_of_a_larger_repository_is_a_project(dvc_project: Path, tmp_path: Path) -> None:
    """As `dvc init --subdir` makes it."""
    inner = tmp_path / "outer/apps/lora"
    shutil.copytree(dvc_project, inner)
    with chdir(inner):
        run_in_shell("cp -r .dvc/cache ../cache && rm -rf .git .dvc && git init -q ../..")
        run_in_shell("dvc init -q --subdir && mv ../cache .dvc/cache && git add -A ../..")
        run_in_shell("git -c user.name=a -c user.email=b commit -qm all")
        assert_succeeded(bert_lora("verify"))
        assert "not distinguishable" in assert_succeeded(bert_lora("compare", "HEAD"))
        run_in_shell(EDIT)
        assert_succeeded(bert_lora("verify"))


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files away")
def test_a_clone_of_another_owner_has_gits_own_line(
    dvc_project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    home = {"HOME": str(dvc_project.parent)}
    monkeypatch.setenv("HOME", home["HOME"])
    run_in_shell("chown -R 1500:1500 .")
    for command in (("verify",), ("seeds", "1"), ("compare", "HEAD")):
        done = bert_lora(*command, **home)
        line = f"git config --global --add safe.directory {dvc_project}"
        assert_refused(done, 5, f"Fix: run: {line}")
        assert len(done.stdout.splitlines()) == 1
    run_in_shell(line)
    assert_succeeded(bert_lora("compare", "HEAD", **home))
