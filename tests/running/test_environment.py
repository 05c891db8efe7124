"""Threads and verbosity of the libraries, whatever the shell says."""

from __future__ import annotations

import os

import joblib
import pytest

from stages.core.params import ComputeParams
from stages.running.environment import set_environment, threads_of

THREADS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")
QUIET = ("TOKENIZERS_PARALLELISM", "HF_HUB_DISABLE_TELEMETRY", "TRANSFORMERS_VERBOSITY")


@pytest.fixture(autouse=True)
def _shell(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in (*THREADS, *QUIET, "CUBLAS_WORKSPACE_CONFIG"):
        monkeypatch.setenv(name, "set by the shell")


def compute(threads: object) -> ComputeParams:
    return ComputeParams.model_validate({"device": "cpu", "precision": "fp32", "threads": threads})


@pytest.mark.parametrize("threads", [1, 3])
def test_the_thread_count_of_the_params_overrides_the_shell(threads: int) -> None:
    set_environment(compute(threads))
    assert [os.environ[name] for name in THREADS] == [str(threads)] * 3


def test_auto_is_the_cores_of_this_process(monkeypatch: pytest.MonkeyPatch) -> None:
    assert 1 <= threads_of(compute("auto")) <= (os.cpu_count() or 1)
    monkeypatch.setattr(joblib, "cpu_count", lambda: 7)  # a container's quota, for example
    set_environment(compute("auto"))
    assert os.environ["OMP_NUM_THREADS"] == "7"


def test_nothing_of_the_shell_is_left() -> None:
    set_environment(compute(1))
    assert "set by the shell" not in os.environ.values()
