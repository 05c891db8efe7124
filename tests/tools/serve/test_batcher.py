"""What waits is computed together: turns, bounds, faults; leaving and the end are in test_run."""

import asyncio
import threading
from collections.abc import Callable, Coroutine
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from stages.tools.serve.batcher import CHARACTERS, Batcher, BusyError


class Work:
    """Turns texts into capitals once it is let go; "x" is a fault.

    Attributes:
        batches: the texts of each call.
        sizes: what was counted of each batch.
    """

    def __init__(self) -> None:
        self.go = threading.Event()
        self.batches: list[str] = []
        self.sizes: list[int] = []

    def __call__(self, texts: list[str]) -> list[str]:
        """Return the capitals."""
        self.batches.append("".join(texts) if max(map(len, texts)) == 1 else str(len(texts)))
        assert self.go.wait(20)
        if "x" in texts:
            raise ValueError("x")
        return [text.upper() for text in texts]


Test = Callable[["Batcher[str]", Work], Coroutine[Any, Any, None]]


def run(test: Test, batch: int = 4, waiting: int = 10) -> None:
    """Run a test on a batcher whose thread is busy with a first text."""
    work = Work()

    async def inside() -> None:
        with ThreadPoolExecutor(1) as thread:
            batcher: Batcher[str] = Batcher(work, thread, batch, waiting, work.sizes.append)
            task = asyncio.create_task(batcher.run())
            first = batcher.submit("0")
            while not work.batches:
                await asyncio.sleep(0.001)
            try:
                await asyncio.wait_for(test(batcher, work), 20)
            finally:
                work.go.set()
            assert await first == ["0"]
            task.cancel()

    asyncio.run(inside())


def test_requests_take_turns_and_explanations_come_last() -> None:
    async def test(batcher: Batcher[str], work: Work) -> None:
        jobs = [batcher.submit("ABC", True), batcher.submit("abcdef"), batcher.submit("g")]
        assert (batcher.waiting(), batcher.waiting(explain=True)) == (7, 3)
        jobs.append(batcher.submit("hi"))
        work.go.set()
        assert ["".join(answers) for answers in await asyncio.gather(*jobs)] == [
            *("ABC", "ABCDEF", "G", "HI")
        ]
        assert work.batches == ["0", "aghb", "icde", "f", "ABC"]
        assert work.sizes == [1, 4, 4, 1, 3]

    run(test)


def test_a_batch_is_bounded_in_characters_too() -> None:
    async def test(batcher: Batcher[str], work: Work) -> None:
        job = batcher.submit(["a" * (CHARACTERS // 2)] * 5)
        work.go.set()
        await job
        assert work.batches == ["0", "2", "2", "1"]

    run(test)


def test_too_much_is_refused_and_taken_later() -> None:
    async def test(batcher: Batcher[str], work: Work) -> None:
        jobs = [batcher.submit("a" * 12), batcher.submit("b" * 12, True)]  # where none waits
        for explain in (False, True):
            with pytest.raises(BusyError, match="too many requests wait"):
                batcher.submit("c", explain)
        work.go.set()
        await asyncio.gather(*jobs)
        assert await batcher.submit("c") == ["C"]

    run(test)


def test_a_fault_stays_with_the_request_that_caused_it() -> None:
    async def test(batcher: Batcher[str], work: Work) -> None:
        good, bad, other = (batcher.submit(texts) for texts in ("ab", "x", "c"))
        work.go.set()
        assert await good == ["A", "B"]
        assert await other == ["C"]
        with pytest.raises(ValueError, match="x"):
            await bad
        assert await batcher.submit("d") == ["D"]

    run(test)
