"""Requests that arrive together are computed together, by one thread.

While a batch is computed, further requests wait; the next batch takes a fair share of each, so a
request of many texts does not hold up one of a single text. Nothing waits for a batch to fill.
"""

from __future__ import annotations

import math
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar

Question = TypeVar("Question")
Answer = TypeVar("Answer")
CALLS = 8  # pieces of other work that may wait
FIRST_RATE = 50.0  # texts a second, before any was computed
MEMORY = 0.9  # weight of the earlier batches in the measured rate


class FullError(Exception):
    """Too much waits already.

    Args:
        retry_after: seconds after which there should be room.
    """

    def __init__(self, retry_after: int) -> None:
        super().__init__(retry_after)
        self.retry_after = retry_after


class ClosedError(Exception):
    """The thread takes no more work."""


@dataclass(eq=False)
class _Job(Generic[Question, Answer]):
    """One request: its questions, and the answers so far."""

    questions: Sequence[Question]
    future: Future[list[Answer]] = field(default_factory=Future)
    answers: list[Answer] = field(default_factory=list)
    taken: int = 0


class Batcher(Generic[Question, Answer]):
    """One thread that computes batches.

    Args:
        work: returns an answer to each question of a batch, in order.
        batch: questions of a batch at most.
        waiting: questions that may wait.
        seen: called with size and seconds of each batch.
    """

    def __init__(
        self,
        work: Callable[[list[Question]], Sequence[Answer]],
        batch: int,
        waiting: int,
        seen: Callable[[int, float], None] = lambda *_: None,
    ) -> None:
        self._work, self._batch, self._limit, self._seen = work, batch, waiting, seen
        self._jobs: deque[_Job[Question, Answer]] = deque()
        self._calls: deque[tuple[Callable[[], Any], Future[Any]]] = deque()
        self._changed = threading.Condition()
        self._waiting = 0
        self._closed = False
        self._rate = FIRST_RATE
        self._thread = threading.Thread(target=self._run, name="batches", daemon=True)
        self._thread.start()

    @property
    def waiting(self) -> int:
        """How many questions wait, those of the running batch not included."""
        return self._waiting

    @property
    def alive(self) -> bool:
        """Whether work is still done."""
        return self._thread.is_alive()

    def submit(self, questions: Sequence[Question]) -> Future[list[Answer]]:
        """Return the future answers to the questions.

        Raises:
            FullError: if too many would wait.
            ClosedError: if no more work is taken.
        """
        job: _Job[Question, Answer] = _Job(questions)
        with self._changed:
            if self._closed or not self.alive:
                raise ClosedError
            if self._waiting + len(questions) > self._limit:
                raise FullError(max(1, math.ceil(self._waiting / self._rate)))
            self._waiting += len(questions)
            self._jobs.append(job)
            self._changed.notify()
        return job.future

    def call(self, work: Callable[[], Any]) -> Future[Any]:
        """Return the future result of other work, which is done between two batches.

        Raises:
            FullError: if too much of it waits.
            ClosedError: if no more work is taken.
        """
        future: Future[Any] = Future()
        with self._changed:
            if self._closed or not self.alive:
                raise ClosedError
            if len(self._calls) >= CALLS:
                raise FullError(CALLS)
            self._calls.append((work, future))
            self._changed.notify()
        return future

    def close(self, timeout: float | None = None) -> bool:
        """Take no more work, finish what waits, and return whether that was done in time."""
        with self._changed:
            self._closed = True
            self._changed.notify()
        self._thread.join(timeout)
        return not self._thread.is_alive()

    def _run(self) -> None:
        while True:
            with self._changed:
                while not (self._jobs or self._calls or self._closed):
                    self._changed.wait()
                taken = self._take()
                call = self._calls.popleft() if self._calls else None
            if not taken and not call:
                return
            if taken:
                self._compute(taken)
            if call:
                _settle(call[1], call[0])

    def _take(self) -> list[tuple[_Job[Question, Answer], list[Question]]]:
        """Return what the next batch holds: an equal share of each job, the oldest first."""
        taken, room = [], self._batch
        share = max(1, room // len(self._jobs)) if self._jobs else 0
        for job in list(self._jobs):
            if not room:
                break
            if job.taken == 0 and not job.future.set_running_or_notify_cancel():
                self._forget(job)  # whoever asked has left
                continue
            questions = list(job.questions[job.taken : job.taken + min(share, room)])
            job.taken += len(questions)
            room -= len(questions)
            taken.append((job, questions))
            if job.taken == len(job.questions):
                self._jobs.remove(job)
        self._waiting -= self._batch - room
        return taken

    def _compute(self, taken: list[tuple[_Job[Question, Answer], list[Question]]]) -> None:
        questions = [question for _, part in taken for question in part]
        start = time.perf_counter()
        try:
            answers = list(self._work(questions))
        except Exception as error:
            if len(taken) > 1:  # each job alone, so that the fault stays where it belongs
                for one in taken:
                    self._compute([one])
            else:
                self._fail(taken[0][0], error)
            return
        seconds = time.perf_counter() - start
        self._rate = MEMORY * self._rate + (1 - MEMORY) * len(questions) / max(seconds, 1e-6)
        self._seen(len(questions), seconds)
        for job, part in taken:
            job.answers += answers[: len(part)]
            del answers[: len(part)]
            if len(job.answers) == len(job.questions):
                job.future.set_result(job.answers)

    def _forget(self, job: _Job[Question, Answer]) -> None:
        self._jobs.remove(job)
        self._waiting -= len(job.questions) - job.taken

    def _fail(self, job: _Job[Question, Answer], error: Exception) -> None:
        with self._changed:
            if job in self._jobs:
                self._forget(job)
        job.future.set_exception(error)


def _settle(future: Future[Any], work: Callable[[], Any]) -> None:
    if not future.set_running_or_notify_cancel():
        return
    try:
        future.set_result(work())
    except Exception as error:
        future.set_exception(error)
