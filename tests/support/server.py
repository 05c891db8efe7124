"""A model of counted words, a server on it in a thread, and `bert-lora serve` as a process."""

import os
import re
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx2
import numpy as np

from stages.tools.predictor import Predictor
from stages.tools.serve.app import Envelope, Hosts, Limits, Service, make_app
from stages.tools.serve.run import Server, listen

ROOT = Path(__file__).parents[2]
URL = re.compile(r" at (http://\S+) ")
LIMITS = Limits(body_bytes=40_000, texts=64, characters=2000, waiting=400, batch=8)


@dataclass
class Words:
    """Counts words: `good` speaks for the second class, `bad` for the first, `nan` is a fault.

    Attributes:
        weight: of a word, in logits.
        seconds: that each text takes.
        held: a file; while it exists, no batch ends.
        labels: number of classes; with many, `good` speaks for the last one.
        batches: the texts of each call.
    """

    weight: float = 1.0
    seconds: float = 0.0
    labels: int = 2
    held: Path = Path("nothing holds it")
    batches: list[list[str]] = field(default_factory=list)

    def score(self, texts: list[str]) -> np.ndarray[Any, np.dtype[np.float32]]:
        """Return the logits, shape (texts, labels)."""
        self.batches.append(texts)
        time.sleep(self.seconds * len(texts))
        while self.held.exists():
            time.sleep(0.02)
        rows = [[0.0] * (self.labels - 1) + [self._value(text.split())] for text in texts]
        return np.array(rows, dtype=np.float32)

    def _value(self, words: list[str]) -> float:
        return (
            float("nan")
            if "nan" in words
            else self.weight * (words.count("good") - words.count("bad"))
        )

    def predictor(self) -> Predictor:
        """Return it as a model, each of whose words is a token, or 18 as NFKC makes of one."""
        return Predictor(
            description="words",
            labels=["negative", "positive", *map(str, range(self.labels))][: self.labels],
            max_length=16,
            temperature=2.0,
            sha256="ab" * 32,
            score=self.score,
            cut=lambda texts: [
                len(text.split()) + 2 + 17 * text.count("\ufdfa") > 16 for text in texts
            ],
        )


def word_app(words: Words, base: bool = True, hosts: Hosts | None = None) -> Envelope:
    """Return an application on them; its base weighs words half."""
    models = {"model": words.predictor()}
    if base:
        models["base"] = Words(weight=0.5, labels=words.labels).predictor()
    return make_app(Service(models, LIMITS), hosts or Hosts("0.0.0.0", "0.0.0.0", []))  # noqa: S104  # any name


@dataclass
class Running:
    """A server: where it is, what it has printed, and its process if it has one of its own."""

    url: str
    log: list[str] = field(default_factory=list)
    process: subprocess.Popen[str] | None = None

    @property
    def address(self) -> tuple[str, int]:
        """Host and port."""
        host, port = self.url.removeprefix("http://").split(":")
        return host, int(port)

    def post(self, path: str, **body: Any) -> Any:
        """Return the response to a body in JSON."""
        return httpx2.post(f"{self.url}{path}", json=body, timeout=60)

    def metric(self, name: str) -> float:
        """Return a number of /metrics."""
        found = re.search(rf"^{name} (\S+)", httpx2.get(f"{self.url}/metrics").text, re.M)
        assert found is not None
        return float(found[1])


@contextmanager
def word_server(words: Words) -> Iterator[Running]:
    """Run a server on the words in a thread."""
    listener = listen("127.0.0.1", 0)
    server = Server(word_app(words))
    thread = threading.Thread(target=server.run, args=([listener],), daemon=True)
    thread.start()
    try:
        yield Running(f"http://127.0.0.1:{listener.getsockname()[1]}")
    finally:
        server.should_exit = True
        thread.join(30)
    assert not thread.is_alive()


@contextmanager
def serving(folder: Path, *arguments: str, **options: Any) -> Iterator[Running]:
    """Run `bert-lora serve` in the folder on a free port; it is killed at the end if it still runs.

    Raises:
        RuntimeError: if it ends before it serves.
    """
    command = [sys.executable, "-m", "stages.tools.cli", "serve", "--port", "0", *arguments]
    with process(command, folder, **options) as running:
        yield running


@contextmanager
def process(command: list[str], folder: Path, **options: Any) -> Iterator[Running]:
    """Run a command that prints where it serves."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    started = subprocess.Popen(
        command, cwd=folder, env=environment, stderr=subprocess.PIPE, text=True, **options
    )
    assert started.stderr is not None
    log: list[str] = []
    try:
        for line in started.stderr:
            log.append(line)
            if found := URL.search(line):
                break
        else:
            raise RuntimeError("".join(log))
        threading.Thread(target=log.extend, args=(started.stderr,), daemon=True).start()
        yield Running(found[1], log, started)
    finally:
        started.kill()
        started.wait()


if __name__ == "__main__":  # a process that serves words, and computes none while a file exists
    socket = listen("127.0.0.1", 0)
    print(f"words at http://127.0.0.1:{socket.getsockname()[1]} .", file=sys.stderr, flush=True)
    Server(word_app(Words(held=Path("held")))).run([socket])
