"""models/provenance.json: what it holds, what it leaves out, and that it stops no stage."""

from __future__ import annotations

import getpass
import json
import platform
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from stages.core import paths
from stages.running import provenance
from stages.running.dvc import git_state
from tests.support.tiny import new_process

pytestmark = pytest.mark.usefixtures("project")
STAGE = """from stages.running.run import run_stage
from stages.core.errors import DataError
def prepare(params): pass
def compare(params): raise DataError("x", "y")
"""
PEAK = "from stages.running.provenance import peak_memory_mb; print(peak_memory_mb())"


def content() -> Any:
    return json.loads(paths.PROVENANCE.read_text(encoding="utf-8"))


def test_stages_add_to_one_file() -> None:
    paths.LOCK.write_text("schema: '2.0'\n", encoding="utf-8")
    provenance.record("prepare", 1.234, {"device": "cpu"})
    provenance.record("compare", 5.0, {})
    found = content()
    assert set(found) == {"git", "machine", "packages", "stages"}
    assert found["stages"]["prepare"]["seconds"] == 1.23
    assert found["stages"]["prepare"]["device"] == "cpu"
    assert found["stages"]["compare"]["peak_memory_mb"] > 10
    assert found["packages"]["torch"]
    assert found["machine"]["cores"] >= 1
    for of_this_machine in (Path.cwd(), getpass.getuser(), platform.node() or "none"):
        assert f'"{of_this_machine}"' not in json.dumps(found)


@pytest.mark.parametrize("old", [b"", b"{", b"[]", b"\xff\x00", b'{"stages": 3}', b"[" * 100_000])
def test_a_damaged_file_is_made_anew(old: bytes, capsys: pytest.CaptureFixture[str]) -> None:
    paths.PROVENANCE.write_bytes(old)
    provenance.record("prepare", 1.0, {})
    assert set(content()["stages"]) == {"prepare"}
    assert capsys.readouterr().err == ""


FULL = """from stages.running import provenance
from stages.running.dvc import git_state
def write_json(*_): raise OSError(28, "No space left on device")
provenance.write_json = write_json
"""


def test_a_record_that_cannot_be_written_stops_no_stage() -> None:
    process = new_process(f"{FULL}{STAGE}run_stage('prepare', prepare)")
    output, _ = process.communicate()
    assert process.returncode == 0
    assert output.startswith("warning: models/provenance.json: not written: ")


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere a process starts at zero")
def test_the_peak_is_that_of_the_stage_not_of_who_started_it() -> None:
    code = "import subprocess, sys; from stages.running.provenance import peak_memory_mb as peak\n"
    code += "big = b'x' * 400_000_000; assert peak() > 400; del big\n"
    code += f"subprocess.run([sys.executable, '-c', {PEAK!r}], check=True)"
    process = new_process(code)
    output, _ = process.communicate()
    assert process.returncode == 0, output
    assert 5 < float(output) < 300


def test_git_names_the_revision_and_whether_files_differ(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for command in ("init -q", "add params.yaml", "-c user.name=a -c user.email=b commit -qm x"):
        subprocess.run(["git", *command.split()], check=True)
    revision = subprocess.run(
        ["git", "rev-parse", "HEAD"], check=True, capture_output=True, text=True
    ).stdout.strip()
    assert git_state() == {"revision": revision, "changed": False}
    paths.PARAMS.write_text("{}", encoding="utf-8")
    assert git_state() == {"revision": revision, "changed": True}
    monkeypatch.setenv("PATH", "")
    provenance.record("prepare", 1.0, {})
    assert content()["git"] == {"revision": None, "changed": None}


def test_a_stage_records_itself_and_a_failed_one_does_not() -> None:
    good, bad = (
        new_process(f"{STAGE}run_stage('prepare', prepare)"),
        new_process(f"{STAGE}run_stage('compare', compare)"),
    )
    for process in (good, bad):
        process.communicate()
    assert (good.returncode, bad.returncode) == (0, 3)
    assert set(content()["stages"]) == {"prepare"}
    # No torch, no device: nothing is imported to say more.
    assert set(content()["stages"]["prepare"]) == {"seconds", "peak_memory_mb", "finished"}
