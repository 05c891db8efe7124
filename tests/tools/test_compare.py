"""`bert-lora compare` between real revisions: the verdict, the checks, and what cannot be had."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from stages.core import paths
from stages.core.errors import HostError
from stages.reporting.results import verdict
from stages.reporting.significance import paired_gain
from stages.tools import compare
from stages.tools.compare import read_run
from tests.support.small_project import bert_lora, run_successfully


def in_project(test: Callable[..., None]) -> Callable[..., None]:
    """Run a test in a copy of the project."""
    marked: Callable[..., None] = pytest.mark.slow(pytest.mark.usefixtures("_inside")(test))
    return marked


def as_json(*arguments: str) -> dict[str, Any]:
    done = bert_lora("compare", *arguments, "--json")
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def recorded(revision: str, name: str = "adapter") -> Any:
    run_successfully("git", "checkout", "-q", revision)
    run_successfully("dvc", "checkout", "-q")
    frame = pd.read_csv(f"metrics/predictions/{name}.csv")
    return (frame["label"] == frame["predicted"]).to_numpy()


@in_project
@pytest.mark.parametrize("model", ["adapter", "base"])
def test_two_tags_by_the_statistics_of_the_pipeline(model: str) -> None:
    found = as_json("one", "two", "--of", model)
    expected = paired_gain(recorded("one", model), recorded("two", model))
    assert (found["fixed"], found["broken"]) == (expected.fixed, expected.broken)
    assert (found["gain"], found["p"]) == (expected.gain, expected.p)
    assert (found["low"], found["high"]) == (expected.low, expected.high)
    assert found["revisions"] == ["one", "two"]
    assert found["verdict"] == verdict(expected, ("one", "two"))
    if model == "base":
        assert found["gain"] == 0
        assert "not distinguishable" in found["verdict"]


@in_project
def test_without_revisions_it_is_the_last_commit_and_the_workspace() -> None:
    assert as_json()["gain"] == 0
    shutil.copy("metrics/predictions/base.csv", "copy.csv")
    Path("metrics/predictions/adapter.csv").unlink()
    shutil.move("copy.csv", "metrics/predictions/adapter.csv")
    found = as_json()
    assert found["revisions"] == ["HEAD", "workspace"]
    assert found["gain"] < 0


@in_project
def test_a_person_gets_a_table_and_a_sentence() -> None:
    done = bert_lora("compare", "one", "two")
    assert done.returncode == 0
    assert "95 % interval" in done.stdout
    assert "the smallest that these 200 rows could show" in done.stdout
    assert "gain +" in done.stdout
    assert done.stderr == ""
    assert max(map(len, done.stdout.splitlines())) <= 120


@in_project
def test_markdown_is_a_sentence_and_a_table() -> None:
    done = bert_lora("compare", "one", "two", "--md")
    lines = done.stdout.splitlines()
    assert lines[0].startswith("**`one` ")
    assert [line.count("|") for line in lines if line.startswith("|")] == [4] * 5


@in_project
@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (("one", "two", "--tolerance", "0"), 0, ""),
        (("two", "one", "--tolerance", "0.05"), 1, "check failed: accuracy fell by 0."),
        (("two", "one", "--tolerance", "0.5"), 0, ""),
        (("two", "one", "--fail-under", "0.99"), 1, "check failed: accuracy 0."),
        (("two", "one", "--fail-under", "0.1"), 0, ""),
        (("two", "two", "--tolerance", "0"), 0, ""),
    ],
)
def test_checks_end_with_one(arguments: tuple[str, ...], code: int, message: str) -> None:
    done = bert_lora("compare", *arguments)
    assert done.returncode == code
    assert done.stderr.startswith(message)
    assert len(done.stderr.splitlines()) == (1 if message else 0)
    assert "gain " in done.stdout  # the comparison is shown in any case


@in_project
@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (("nosuch", "one"), 2, "nosuch: no such commit, tag, branch or experiment"),
        (("\x1b[31m", "one"), 2, "no such commit"),
        (("", "one"), 2, "a revision is empty"),  # an unset variable of a pull-request check
        (("one", " ", "--tolerance", "0"), 2, "a revision is empty"),
        (("HEAD:params.yaml", "one"), 2, "no such commit"),
        (("before", "one"), 5, "before: its dvc.lock records no metrics/predictions/adapter.csv"),
        (("one", "small"), 3, "one and small: other test rows: 100 rows"),
        (
            ("one", "two", "--of", "both"),
            2,
            "'both' is not one of 'adapter', 'base'. Fix: see bert-lora compare",
        ),
        (("one", "two", "--md", "--json"), 2, "both --json and --md"),
        (("one", "two", "--tolerance", "3"), 2, "--tolerance"),
        (("one", "two", "three"), 2, "three"),
    ],
)
def test_a_mistake_is_one_line(arguments: tuple[str, ...], code: int, message: str) -> None:
    done = bert_lora("compare", *arguments)
    assert done.returncode == code
    assert message in done.stderr
    assert len(done.stderr.splitlines()) == 1
    assert "\x1b" not in done.stderr
    assert done.stdout == ""


@in_project
def test_predictions_that_the_cache_has_lost_are_named() -> None:
    shutil.rmtree(".dvc/cache/files")
    done = bert_lora("compare", "one", "two")
    assert done.returncode == 5
    assert f"one: {paths.ADAPTER_PREDICTIONS} is neither in git" in done.stderr
    assert len(done.stderr.splitlines()) == 1


@in_project
def test_a_missing_file_of_the_workspace_names_its_stage() -> None:
    Path("metrics/predictions/adapter.csv").unlink()
    done = bert_lora("compare", "one")
    assert (done.returncode, "dvc repro evaluate_adapter" in done.stderr) == (5, True)


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"{}", b"\xff", b'{"precision": "fp32"}'])
def test_a_manifest_that_does_not_say_how_it_was_made_is_one_line(
    monkeypatch: pytest.MonkeyPatch, content: bytes
) -> None:
    monkeypatch.setattr(compare, "content_of", lambda *_: content)
    with pytest.raises(HostError, match=r"seeds-1: models/adapter/manifest\.json: records no prec"):
        read_run("seeds-1")
