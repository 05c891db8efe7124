"""Texts that wait are computed together, by one thread. Nothing waits for a batch to fill."""

import asyncio
import heapq
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from itertools import count
from typing import Any, Generic, TypeVar

Answer = TypeVar("Answer")
# Of a batch, about 2,048 tokens: enough to keep a processor busy, and so few that a text which
# comes next, or the end of the server, waits for a fraction of a second.
CHARACTERS = 8192


class BusyError(Exception):
    """Too much waits already, or the server is stopping."""


@dataclass
class Batcher(Generic[Answer]):
    """Computes batches in a thread; all else happens in the event loop.

    The requests take turns, a text each, so that one of many texts does not hold up one of a
    single text. Explanations have batches of their own, and only while no other text waits.
    """

    compute: Callable[[list[str]], Sequence[Answer]]  # an answer to each text of a batch, in order
    thread: ThreadPoolExecutor  # where it is called
    most: int  # texts of a batch
    limit: int  # texts that may wait, of answers and of explanations; where none waits, any number
    seen: Callable[[int], None]  # called with the size of each batch
    closed: bool = False
    # A heap of: whether it explains, turn, number, text, its answer.
    _queue: list[tuple[bool, int, int, str, asyncio.Future[Answer]]] = field(default_factory=list)
    _some: asyncio.Event = field(default_factory=asyncio.Event)
    _turn: int = 0
    _numbers: Iterator[int] = field(default_factory=count)

    def waiting(self, explain: bool = False) -> int:
        """Return how many texts wait for somebody who has not left."""
        return sum(kind == explain and not one.done() for kind, *_, one in self._queue)

    def submit(self, texts: Sequence[str], explain: bool = False) -> asyncio.Future[list[Answer]]:
        """Return the future answers to the texts; if it is cancelled, no more are computed.

        Raises:
            BusyError: if too much waits, or the server is stopping.
        """
        if self.closed:
            raise BusyError("the server is stopping")
        waiting = self.waiting(explain)
        if waiting and waiting + len(texts) > self.limit:
            raise BusyError("too many requests wait")
        answers = [asyncio.get_running_loop().create_future() for _ in texts]
        for turn, (text, answer) in enumerate(zip(texts, answers, strict=True), self._turn):
            heapq.heappush(self._queue, (explain, turn, next(self._numbers), text, answer))
        self._some.set()
        job = asyncio.gather(*answers)
        job.add_done_callback(_noticed)
        return job

    def close(self) -> None:
        """Take no more work, and refuse what waits; the running batch is still answered."""
        self.closed = True
        for *_, answer in self._queue:
            if not answer.done():
                answer.set_exception(BusyError("the server is stopping"))

    async def run(self) -> None:
        """Compute batches until cancelled."""
        loop = asyncio.get_running_loop()
        while await self._some.wait():
            batch = self._take()
            if not batch:
                self._some.clear()
                continue
            texts = [text for text, _ in batch]
            results = await loop.run_in_executor(self.thread, self._results, texts)
            self.seen(len(texts))
            for (_, answer), result in zip(batch, results, strict=True):
                if answer.done():  # whoever asked has left
                    continue
                if isinstance(result, Exception):
                    answer.set_exception(result)
                else:
                    answer.set_result(result)

    def _take(self) -> list[tuple[str, asyncio.Future[Answer]]]:
        """Return the next batch."""
        batch: list[tuple[str, asyncio.Future[Answer]]] = []
        room, explain = CHARACTERS, False
        while self._queue and len(batch) < self.most and room > 0:
            if batch and self._queue[0][0] != explain:
                break
            explain, self._turn, _, text, answer = heapq.heappop(self._queue)
            if not answer.done():
                batch.append((text, answer))
                room -= len(text)
        return batch

    def _results(self, texts: list[str]) -> Sequence[Answer | Exception]:
        """Return the answers; where a batch fails, each text alone, and its error in its place."""
        try:
            return self.compute(texts)
        except Exception as error:
            if len(texts) == 1:
                return [error]
        return [result for text in texts for result in self._results([text])]


def _noticed(job: asyncio.Future[Any]) -> None:
    """Look at how a job ended: asyncio logs what nobody asks for, as when the client has left."""
    if not job.cancelled():
        job.exception()
