"""The processes of a search's workers, each with a log."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from stages.core import paths
from stages.core.errors import UserError
from stages.tools.search.worker import Task

WAIT = 30  # seconds for a worker to end by itself once it was told to


class Worker:
    """A worker's process and its log.

    Args:
        task: what it works on.
        place: its number, for the log's name.
    """

    def __init__(self, task: Task, place: int) -> None:
        self.task = task
        self.log: Path = paths.STUDIES / f"worker-{place}.log"
        self.start()

    def start(self) -> None:
        """Start the process."""
        self.log.parent.mkdir(parents=True, exist_ok=True)
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "stages.tools.search.worker", self.task.to_json()],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )

    @property
    def ended(self) -> bool:
        """Whether the process is gone."""
        return self.process.poll() is not None

    @property
    def code(self) -> int:
        """Its exit code; negative for a signal."""
        return self.process.returncode or 0

    @property
    def failed_by_user(self) -> bool:
        """Whether it ended with a mistake that the user can correct; then its line is printed."""
        if self.code not in {kind.exit_code for kind in UserError.__subclasses__()}:
            return False
        lines = self.log.read_text(encoding="utf-8", errors="replace").splitlines()
        for line in [line for line in lines if line.startswith("error: ")][-1:]:
            print(line, file=sys.stderr)
        return True


def stop_all(workers: list[Worker]) -> None:
    """Tell the workers to put their trials back and end; kill what does not."""
    for worker in workers:
        worker.process.terminate()
    for worker in workers:
        try:
            worker.process.wait(WAIT)
        except subprocess.TimeoutExpired:
            worker.process.kill()
            worker.process.wait()
