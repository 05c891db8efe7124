"""Stages in several processes: how the tests start them, find them, and read what they left."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import psutil
import torch
from safetensors.torch import load_file

from stages.core import paths
from tests.support.tiny import ROOT


class Started:
    """A command that runs in the current folder, and all that it prints.

    Args:
        command: what to run.
        environment: variables on top of the test's own.
    """

    def __init__(self, *command: str, **environment: str) -> None:
        handle, name = tempfile.mkstemp(prefix="started-", suffix=".log")
        self._log = Path(name)
        with os.fdopen(handle, "wb") as log:
            self.process = subprocess.Popen(
                command,
                env={**os.environ, "PYTHONPATH": str(ROOT), **environment},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )

    @property
    def output(self) -> str:
        """What it has printed so far."""
        return self._log.read_text(encoding="utf-8", errors="replace")

    def finish(self, seconds: float = 180) -> subprocess.CompletedProcess[str]:
        """Wait for the end; return the exit code and the output.

        Raises:
            AssertionError: if it has not ended by then.
        """
        try:
            code = self.process.wait(seconds)
        except subprocess.TimeoutExpired:
            output = self.output
            end_all(self.process.pid)
            raise AssertionError(f"still running after {seconds} s:\n{output}") from None
        done = subprocess.CompletedProcess([], code, self.output)
        self._log.unlink()
        return done

    def ranks(self) -> dict[int, psutil.Process]:
        """Return the processes that share the stage, by their number."""
        found = {}
        with suppress_gone():
            for child in psutil.Process(self.process.pid).children(recursive=True):
                with suppress_gone():
                    variables = child.environ()
                    if "RANK" in variables and "-m" in child.cmdline():
                        found[int(variables["RANK"])] = child
        return found


@contextmanager
def suppress_gone() -> Iterator[None]:
    """Leave the block quietly if a process in it has ended."""
    with suppress(psutil.NoSuchProcess, psutil.ZombieProcess, psutil.AccessDenied):
        yield


def end_all(pid: int) -> None:
    """Kill a process and those that it started."""
    with suppress_gone():
        process = psutil.Process(pid)
        for each in [*process.children(recursive=True), process]:
            with suppress_gone():
                each.send_signal(signal.SIGKILL)


def start_stage(stage: str, **environment: str) -> Started:
    """Start a stage as DVC does."""
    return Started(sys.executable, "-m", "stages", stage, **environment)


def start_agent(stage: str, node: int, port: int) -> Started:
    """Start torchrun as on one of two machines, with one process, meeting on the loopback."""
    return Started(
        *(sys.executable, "-m", "torch.distributed.run"),
        *("--nnodes=2", "--nproc-per-node=1", f"--node-rank={node}", "--rdzv-id=test"),
        *("--rdzv-backend=c10d", f"--rdzv-endpoint=127.0.0.1:{port}", "--local-addr=127.0.0.1"),
        *("-m", "stages", stage),
    )


def free_port() -> int:
    """Return a port of the loopback that nobody uses."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])


def weights() -> dict[str, torch.Tensor]:
    """Return the adapter's weights."""
    return load_file(paths.ADAPTER_WEIGHTS)


def assert_same_weights(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> None:
    """Check that two trainings have ended at the same weights but for the rounding of sums."""
    assert one.keys() == other.keys()
    for name, tensor in one.items():
        if name.endswith("key.bias"):  # the softmax cancels it: its gradient is rounding alone
            continue
        torch.testing.assert_close(other[name], tensor, rtol=1e-3, atol=2e-5, msg=name)
