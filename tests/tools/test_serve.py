"""The command `bert-lora serve`: its options and mistakes, and the README's transcript."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import time
from importlib import util
from pathlib import Path
from typing import Any

import httpx2
import pytest

from stages.core import paths
from stages.core.errors import HostError, ModelError, ParamsError
from stages.serving.http.limits import Limits
from stages.serving.http.run import listen
from stages.tools.serve import LOCAL, check_extra, enter, hosts_of, is_loopback
from tests.support.command import Command
from tests.support.server import serving
from tests.support.tiny import ROOT

README = (ROOT / "README.md").read_text(encoding="utf-8")
PORT = 8000  # of the README's transcript


@pytest.mark.parametrize("name", ["fastapi", "captum"])
def test_without_the_extra_it_says_what_to_install(
    monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    find = util.find_spec
    monkeypatch.setattr("stages.tools.serve.find_spec", lambda n: None if n == name else find(n))
    with pytest.raises(HostError) as error:
        check_extra()
    assert str(error.value) == (
        f"error: bert-lora serve: {name} not installed. "
        "Fix: run: pip install -e '.[serve]' -c .github/constraints.txt"
    )


def test_a_request_must_fit_into_the_queue() -> None:
    with pytest.raises(ParamsError, match="--max-waiting 10 is less than --max-texts 11"):
        Limits(texts=11, waiting=10).check()
    Limits().check()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--port", "65536"], "'--port': Input should be less than or equal to 65535"),
        (["--max-texts", "0"], "'--max-texts': Input should be greater than or equal to 1"),
        (["--max-texts", "2000"], "--max-waiting 1024 is less than --max-texts 2000"),
    ],
)
def test_a_wrong_option_is_one_line(
    command: Command, project: Path, arguments: list[str], message: str
) -> None:
    assert Path.cwd() == project
    result = command("serve", *arguments)
    assert result.code == 2
    assert message in result.err
    assert len(result.err.splitlines()) == 1


def test_without_an_adapter_it_names_the_stage_that_makes_it(
    command: Command, tmp_cwd: Path
) -> None:
    result = command("serve")
    assert result.code == 5
    assert "models/adapter not found: stage 'train_lora' makes it" in result.err
    assert list(tmp_cwd.iterdir()) == []


def test_a_port_in_use_is_one_line(command: Command, project: Path) -> None:
    assert Path.cwd() == project
    with listen("127.0.0.1", 0) as other:
        result = command("serve", "--port", str(other.getsockname()[1]))
    assert result.code == 5
    assert "in use by another program. Fix: stop that, or choose another" in result.err
    assert len(result.err.splitlines()) == 1


def test_a_folder_is_a_project_its_adapter_or_an_export(
    project: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for folder in (project, project / paths.ADAPTER):
        monkeypatch.chdir(tmp_path)
        assert enter(folder) is None
        assert Path.cwd() == project
    export = tmp_path / "export"
    export.mkdir()
    assert enter(export) == export


def test_a_folder_that_is_none_is_one_line(project: Path, tmp_path: Path) -> None:
    with pytest.raises(HostError, match="no such folder"):
        enter(tmp_path / "nothing")
    shutil.copytree(project / paths.ADAPTER, tmp_path / "moved")
    with pytest.raises(ModelError, match="has no base beside it"):
        enter(tmp_path / "moved")


def test_a_folder_that_is_no_export_is_one_line(
    command: Command, project: Path, tmp_path: Path
) -> None:
    assert Path.cwd() == project
    (tmp_path / "other").mkdir()
    result = command("serve", str(tmp_path / "other"), "--port", "0")
    assert result.code == 4
    assert "export.json: not found" in result.err
    assert len(result.err.splitlines()) == 1


@pytest.mark.parametrize(
    ("host", "loopback"),
    [
        *[(host, True) for host in ("127.0.0.1", "127.9.9.9", "::1", "localhost")],
        *[(host, False) for host in ("0.0.0.0", "::", "192.0.2.7", "example.org")],  # noqa: S104
    ],
)
def test_only_loopback_addresses_are_loopback(host: str, loopback: bool) -> None:
    assert is_loopback(host) is loopback


def test_a_loopback_server_answers_to_its_own_names_alone() -> None:
    assert hosts_of("127.0.0.1", []) == frozenset(LOCAL)
    assert hosts_of("127.0.0.9", ["Example.org"]) == frozenset({*LOCAL, "127.0.0.9", "example.org"})
    assert hosts_of("192.0.2.7", []) is None
    assert hosts_of("192.0.2.7", ["example.org"]) == frozenset({*LOCAL, "192.0.2.7", "example.org"})


def transcript() -> list[tuple[str, str]]:
    """Return command and output of each step of the README's transcript."""
    block = re.search(r"```console\n(\$ bert-lora serve.*?)```", README, re.DOTALL)
    assert block is not None
    steps = re.split(r"^\$ ", block[1], flags=re.MULTILINE)[1:]
    return [(step.partition("\n")[0], step.partition("\n")[2]) for step in steps]


def without_answer(text: str) -> str:
    """Return the text without label and probability, since a tiny model answers something else."""
    return re.sub(r'"(?:positive|negative)","probability":\d\.\d+', "...", text)


@pytest.mark.slow
def test_the_transcript_of_the_readme_is_what_happens(project: Path, tmp_path: Path) -> None:
    try:
        listen("127.0.0.1", PORT).close()
    except HostError:
        pytest.skip(f"port {PORT} is in use")
    script = tmp_path / "bert-lora"
    script.write_text(
        f'#!/bin/sh\nexec "{sys.executable}" -m stages.tools.cli "$@"\n', encoding="utf-8"
    )
    script.chmod(0o755)
    environment: dict[str, Any] = {**os.environ, "PYTHONPATH": str(ROOT)}
    environment["PATH"] = f"{tmp_path}:{environment['PATH']}"

    def shell(line: str, output: Path) -> subprocess.Popen[bytes]:
        with output.open("wb") as file:
            return subprocess.Popen(
                ["bash", "-c", line], cwd=project, env=environment, stdout=file, stderr=file
            )

    steps = transcript()
    (start, served), *requests = steps
    assert start.endswith(" &")
    server = shell(start.removesuffix(" &").replace("bert-lora", "exec bert-lora"), tmp_path / "s")
    try:
        for _ in range(600):
            if (tmp_path / "s").read_text(encoding="utf-8") or server.poll() is not None:
                break
            time.sleep(0.1)
        assert (tmp_path / "s").read_text(encoding="utf-8") == served
        for line, output in requests:
            assert shell(line, tmp_path / "o").wait(60) == 0
            printed = (tmp_path / "o").read_text(encoding="utf-8")
            assert without_answer(printed).strip() == without_answer(output).strip()
    finally:
        server.terminate()
    assert server.wait(60) == 0
    assert requests


@pytest.mark.slow
def test_examples_are_shown_on_loopback_alone_unless_asked_for(project: Path) -> None:
    shown = {}
    everywhere = ("--host", "0.0.0.0")  # noqa: S104  # to see what is not shown then
    for arguments in ((), ("--no-examples",), everywhere, (*everywhere, "--examples")):
        with serving(project, *arguments) as running:
            url = running.url.replace("0.0.0.0", "127.0.0.1")  # noqa: S104  # a client's address
            rows = httpx2.get(f"{url}/examples").json()
            shown[arguments] = bool(rows["fixed"] or rows["broken"])
    assert list(shown.values()) == [True, False, False, True]
