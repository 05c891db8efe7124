"""Contenders in processes of their own: what they are given, and what their failure says."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from stages.core.errors import HostError
from stages.tools.benchmark.command import BenchmarkOptions
from stages.tools.benchmark.processes import run_contender
from stages.tools.benchmark.setting import Setting
from stages.tools.benchmark.table import NAMES

STAND_IN = """#!{python}
import json, sys
job = json.load(open(sys.argv[2]))
assert sys.argv[1].endswith("adapterhub.py")
assert len(job["train"]["texts"]) == len(job["train"]["targets"]) == 60
assert (job["r"], job["alpha"], job["classes"], job["seed"]) == (4, 8, 2, 7)
assert (job["max_steps"], job["batch_size"], job["bf16"]) == (8, 8, False)
print(json.dumps({{"training": 1.0, "scoring": 2.0, "accuracy": 0.5}}))
"""


def test_adapterhub_is_given_the_same_rows_and_settings(setting: Setting) -> None:
    python = Path("python").absolute()
    python.write_text(STAND_IN.format(python=sys.executable), encoding="utf-8")
    python.chmod(0o755)
    assert BenchmarkOptions(adapters=python).contenders() == list(NAMES)
    found = run_contender("adapters", 5, 7, setting, python)
    assert found == {"training": 1.0, "scoring": 2.0, "accuracy": 0.5}


@pytest.mark.parametrize("content", [None, "#!/bin/sh\necho no such library >&2; exit 1\n"])
def test_a_python_without_adapterhub_is_named(setting: Setting, content: str | None) -> None:
    python = Path("python").absolute()
    if content:
        python.write_text(content, encoding="utf-8")
        python.chmod(0o755)
    with pytest.raises(HostError, match="no such library" if content else "No such file"):
        run_contender("adapters", 5, 7, setting, python)
