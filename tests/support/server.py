"""A scorer that needs no model, and `bert-lora serve` as a process of its own."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

import numpy as np

from stages.serving.attribution import Occlusion
from stages.serving.http.limits import Limits
from stages.serving.http.service import Service
from stages.serving.scorer import Logits
from stages.serving.served import Served
from tests.support.tiny import ROOT

URL = re.compile(r" at (http://\S+) ")


@dataclass
class WordScorer:
    """Counts words: `good` speaks for the second class, `bad` for the first.

    Attributes:
        weight: of a word, in logits.
        batches: the texts of each call.
    """

    weight: float = 1.0
    description: str = "words"
    labels: list[str] = field(default_factory=lambda: ["negative", "positive"])
    max_length: int = 16
    temperature: float = 2.0
    sha256: str = "ab" * 32
    batches: list[list[str]] = field(default_factory=list)

    def score(self, texts: Sequence[str]) -> Logits:
        """Return logits (texts, 2); the word `nan` makes one of them no number."""
        self.batches.append(list(texts))
        rows = []
        for text in texts:
            words = text.split()
            value = self.weight * (words.count("good") - words.count("bad"))
            rows.append([0.0, float("nan") if "nan" in words else value])
        return np.array(rows, dtype=np.float32)

    def lengths(self, texts: Sequence[str]) -> list[int]:
        """Return the number of words and two special tokens."""
        return [len(text.split()) + 2 for text in texts]


def word_service(base: bool = True, **limits: Any) -> Service:
    """Return a service on word scorers; the base weighs words half."""
    model = WordScorer()
    scorers = {"model": model} | ({"base": WordScorer(weight=0.5)} if base else {})
    explainers = {name: Occlusion(scorer) for name, scorer in scorers.items()}
    served = Served(model, scorers.get("base"), dict(explainers), {"model": model.sha256})
    return Service(served, Limits(**limits))


@dataclass
class Running:
    """A server in a process of its own."""

    process: subprocess.Popen[str]
    url: str
    log: list[str]


@contextmanager
def serving(folder: Path, *arguments: str) -> Iterator[Running]:
    """Run `bert-lora serve` in the folder on a free port; it is killed at the end if it still runs.

    Raises:
        RuntimeError: if it ends before it serves.
    """
    process = subprocess.Popen(
        [sys.executable, "-m", "stages.tools.cli", "serve", "--port", "0", *arguments],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )
    log: list[str] = []
    try:
        yield Running(process, _url(process.stderr, log), log)
    finally:
        process.kill()
        process.wait()


def _url(lines: IO[str] | None, log: list[str]) -> str:
    """Return the address that the server prints; what follows is read into the log."""
    assert lines is not None
    for line in lines:
        log.append(line)
        if found := URL.search(line):
            threading.Thread(target=lambda: log.extend(lines), daemon=True).start()
            return found[1]
    raise RuntimeError("".join(log))
