"""models/provenance.json: what it holds, what it leaves out, and that it stops no stage."""

from __future__ import annotations

import getpass
import json
import platform
from pathlib import Path
from typing import Any

import pytest
from conftest import new_process

from stages.shared import paths, provenance
from stages.shared.artefacts import sha256_of
from stages.shared.params import Params

pytestmark = pytest.mark.usefixtures("project")


def content() -> Any:
    return json.loads(paths.PROVENANCE.read_text(encoding="utf-8"))


def test_stages_add_to_one_file(params: Params) -> None:
    provenance.record("prepare", params, 1.234)
    provenance.record("compare", params, 5.0)
    found = content()
    assert set(found) == {"git", "machine", "packages", "sha256", "stages"}
    assert found["stages"]["prepare"]["seconds"] == 1.23
    assert found["stages"]["compare"]["peak_memory_mb"] > 10
    assert found["packages"]["torch"]
    assert found["machine"]["cores"] >= 1
    weights = paths.ADAPTER_WEIGHTS
    assert found["sha256"][weights.as_posix()] == sha256_of(weights)
    assert "data/test.parquet" in found["sha256"]
    assert "models/base/model.safetensors" in found["sha256"]


def test_device_and_precision_are_those_that_torch_used(params: Params) -> None:
    import torch  # noqa: F401  # its presence is what is tested

    provenance.record("train_lora", params, 1.0)
    assert content()["stages"]["train_lora"]["precision"] == "fp32"
    assert content()["stages"]["train_lora"]["device"] == "cpu"


def test_no_host_user_or_place_is_named(params: Params) -> None:
    provenance.record("compare", params, 1.0)
    text = paths.PROVENANCE.read_text(encoding="utf-8")
    assert str(Path.cwd()) not in text
    assert f'"{getpass.getuser()}"' not in text
    assert not platform.node() or f'"{platform.node()}"' not in text


@pytest.mark.parametrize("old", ["{", "[]", '{"stages": 3}', ""])
def test_a_damaged_file_is_made_anew_or_left_with_a_warning(
    params: Params, old: str, capsys: pytest.CaptureFixture[str]
) -> None:
    paths.PROVENANCE.write_text(old, encoding="utf-8")
    provenance.record("prepare", params, 1.0)
    if "stages" in old:
        assert capsys.readouterr().err.startswith("warning: models/provenance.json: not written")
    else:
        assert set(content()["stages"]) == {"prepare"}


def test_a_folder_without_git_has_no_revision(params: Params) -> None:
    provenance.record("prepare", params, 1.0)
    assert content()["git"] == {"changed": None, "revision": None}


def test_a_stage_records_itself_and_a_failed_one_does_not() -> None:
    code = "from stages.shared.run import run_stage\nfrom stages.shared.errors import DataError\n"
    code += "def prepare(params): pass\ndef compare(params): raise DataError('x', 'y')\n"
    good, bad = new_process(code + "run_stage(prepare)"), new_process(code + "run_stage(compare)")
    for process in (good, bad):
        process.communicate()
    assert (good.returncode, bad.returncode) == (0, 3)
    assert set(content()["stages"]) == {"prepare"}
