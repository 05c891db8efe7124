"""The command `bert-lora push`, against a server on this machine that speaks the Hub's API."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from stages.core import paths
from stages.core.errors import DataError
from stages.serving.published import OF_ADAPTER, files_to_publish
from tests.support.hub_uploads import TOKEN, UploadHub, upload_hub
from tests.support.tiny import ROOT

Done = subprocess.CompletedProcess[str]
Push = Callable[..., Done]
REPO = "owner/film-reviews"


@pytest.fixture
def server() -> Iterator[UploadHub]:
    with upload_hub({"owner/public": False, "owner/mine": True}) as hub:
        yield hub


@pytest.fixture
def push(project: Path, tmp_path: Path, server: UploadHub) -> Push:
    """Return `bert-lora push` in a process: the Hub's library reads the environment once."""
    (project / "dvc.yaml").write_bytes((ROOT / "dvc.yaml").read_bytes())
    (project / "stages").mkdir()

    def run(*arguments: str, token: str = TOKEN, **more: str) -> Done:
        kept = {k: v for k, v in os.environ.items() if not k.startswith(("HF_", "HUGGING"))}
        environment = {
            **kept,
            "HF_ENDPOINT": server.address,
            "HF_HOME": str(tmp_path / "hf"),
            "HF_TOKEN": token,
            "NO_PROXY": "127.0.0.1",
            "PYTHONPATH": str(ROOT),
            **more,
        }
        return subprocess.run(
            [sys.executable, "-m", "stages.tools.cli", "push", *arguments],
            env=environment,
            cwd=project,
            capture_output=True,
            text=True,
            stdin=subprocess.DEVNULL,
            timeout=300,
        )

    return run


def test_the_adapter_is_uploaded_as_it_is_and_privately(
    push: Push, project: Path, server: UploadHub
) -> None:
    done = push(REPO, "--yes")
    assert (done.returncode, done.stderr) == (0, "")
    local = {path.name: path.read_bytes() for path in (project / paths.ADAPTER).iterdir()}
    assert set(local) == set(OF_ADAPTER)
    assert server.repos[REPO] == local
    assert server.private[REPO]
    lines = done.stdout.splitlines()
    assert lines[0] == f"to {REPO} on the Hub, private:"
    listed = {line.split()[0]: line.split()[1].replace(",", "") for line in lines[1:6]}
    assert listed == {name: str(len(content)) for name, content in local.items()}
    assert lines[-1] == f"uploaded: {server.address}/{REPO}/commit/1"


def test_a_dry_run_lists_and_asks_the_hub_nothing(push: Push, server: UploadHub) -> None:
    done = push(REPO, "--dry-run", token="")
    assert (done.returncode, done.stderr) == (0, "")
    assert "adapter_model.safetensors" in done.stdout
    assert done.stdout.endswith("nothing was uploaded: --dry-run\n")
    assert server.asked == []


@pytest.mark.slow
def test_the_merged_model_is_uploaded_without_a_trace_of_this_machine(
    push: Push, project: Path, server: UploadHub
) -> None:
    done = push(REPO, "--merged", "--public", "--yes")
    assert (done.returncode, done.stderr) == (0, "")
    files = server.repos[REPO]
    assert {"config.json", "export.json", "model.safetensors", "tokenizer.json"} < set(files)
    assert not server.private[REPO]
    record = json.loads(files["export.json"])
    assert record["check"]["flipped"] == 0
    for name, content in files.items():
        assert str(project).encode() not in content, name
        assert b"/tmp/" not in content, name


@pytest.mark.guard("private by default")
def test_a_public_repository_is_not_used_unless_told_so(push: Push, server: UploadHub) -> None:
    done = push("owner/public", "--yes")
    assert done.returncode == 2
    assert "owner/public is public on the Hub" in done.stderr
    assert server.repos["owner/public"] == {}
    assert push("owner/mine", "--yes").returncode == 0
    assert set(server.repos["owner/mine"]) == set(OF_ADAPTER)
    assert push("owner/public", "--yes", "--public").returncode == 0
    assert set(server.repos["owner/public"]) == set(OF_ADAPTER)


@pytest.mark.parametrize(
    ("arguments", "more", "code", "message"),
    [
        ([REPO, "--yes"], {"token": ""}, 5, "HF_TOKEN is not set"),
        ([REPO], {}, 2, "nobody to ask on standard input. Fix: add --yes"),
        (["film-reviews", "--yes"], {}, 2, "'film-reviews' is no name of a repository"),
        ([REPO, "--yes"], {"token": "hf_bad"}, 2, "the Hub refuses the upload to owner/film"),
        (["other/name", "--yes"], {}, 2, "no right to create a model under this namespace"),
        ([REPO, "--yes"], {"HF_ENDPOINT": "http://127.0.0.1:9"}, 5, "could not be reached"),
    ],
)
def test_a_mistake_ends_in_one_line(
    push: Push,
    server: UploadHub,
    arguments: list[str],
    more: dict[str, str],
    code: int,
    message: str,
) -> None:
    done = push(*arguments, **more)
    assert done.returncode == code, done.stderr
    assert message in done.stderr
    assert done.stderr.count("\n") == done.stderr.count(" Fix: ") == 1
    assert "hf_bad" not in done.stderr + done.stdout
    assert all(not files for files in server.repos.values())


@pytest.mark.usefixtures("project")
@pytest.mark.guard("unknown file of a push")
@pytest.mark.parametrize("name", ["test.csv", "checkpoint", "flips.csv", ".hidden"])
def test_a_file_that_is_no_part_of_the_adapter_is_refused(name: str) -> None:
    assert set(files_to_publish(paths.ADAPTER, OF_ADAPTER)) == set(OF_ADAPTER)
    (paths.ADAPTER / name).write_text("a text", encoding="utf-8")
    with pytest.raises(DataError, match=f"{name}: is no part of the model, and may hold texts"):
        files_to_publish(paths.ADAPTER, OF_ADAPTER)


@pytest.mark.usefixtures("project")
@pytest.mark.guard("texts in a push")
@pytest.mark.parametrize("split", [paths.TRAIN, paths.VALIDATION, paths.TEST])
@pytest.mark.parametrize("name", ["README.md", "adapter_config.json"])
def test_a_text_of_the_data_is_refused_wherever_it_is(split: Path, name: str) -> None:
    frame: Any = pd.read_parquet(split)
    frame.loc[3, "text"] = "a text that nobody\nis to read"
    frame.to_parquet(split, index=False)
    path = paths.ADAPTER / name
    path.write_text(path.read_text() + "\n> a text   that nobody is to read, and more\n")
    with pytest.raises(DataError, match=f"{name}: holds a text of {split}: a text that nobody"):
        files_to_publish(paths.ADAPTER, OF_ADAPTER)
