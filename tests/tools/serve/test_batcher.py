"""What waits is computed together: order, bounds, faults; leaving and the end are in test_run."""

import asyncio
import threading
from collections.abc import Callable, Coroutine
from typing import Any

import numpy as np
import pytest

from stages.tools.serve.app import CHARACTERS, Batcher, Limits, RefusedError, Scored


class Work:
    """Marks texts as cut once it is let go; "x" is a fault.

    Attributes:
        batches: model and texts of each call.
    """

    def __init__(self) -> None:
        self.go = threading.Event()
        self.batches: list[str] = []

    def __call__(self, model: str, texts: list[str]) -> list[Scored]:
        """Return that they are cut."""
        said = "".join(texts) if max(map(len, texts)) == 1 else str(len(texts))
        self.batches.append(f"{model}: {said}")
        assert self.go.wait(20)
        if "x" in texts:
            raise ValueError("x")
        return [(np.zeros(2, np.float32), True)] * len(texts)


Test = Callable[[Batcher, Work], Coroutine[Any, Any, None]]


def run(test: Test) -> None:
    """Run a test on a batcher whose thread is busy with a first text."""
    work = Work()

    async def inside() -> None:
        batcher = Batcher(work, Limits(waiting=10, batch=4))
        task = asyncio.create_task(batcher.run())
        first = batcher.submit("m", "0")
        while not work.batches:
            await asyncio.sleep(0.001)
        try:
            await asyncio.wait_for(test(batcher, work), 20)
        finally:
            work.go.set()
        assert len(await first) == 1
        task.cancel()

    asyncio.run(inside())


def test_answers_come_first_and_a_batch_is_of_one_model_and_bounded() -> None:
    async def test(batcher: Batcher, work: Work) -> None:
        jobs = [batcher.submit("m", "ABC", True), batcher.submit("m", "abcde")]
        assert (batcher.waiting(), batcher.waiting(explain=True)) == (5, 3)
        jobs += [batcher.submit("base", "gh"), batcher.submit("m", ["a" * (CHARACTERS // 2)] * 3)]
        work.go.set()
        assert list(map(len, await asyncio.gather(*jobs))) == [3, 5, 2, 3]
        assert work.batches == ["m: 0", "m: abcd", "m: e", "base: gh", "m: 2", "m: 1", "m: ABC"]

    run(test)


def test_too_much_is_refused_and_taken_later() -> None:
    async def test(batcher: Batcher, work: Work) -> None:
        # Where none waits, any number does.
        jobs = [batcher.submit("m", "a" * 12), batcher.submit("m", "b" * 12, True)]
        for explain in (False, True):
            with pytest.raises(RefusedError, match="too many requests wait"):
                batcher.submit("m", "c", explain)
        work.go.set()
        await asyncio.gather(*jobs)
        assert len(await batcher.submit("m", "c")) == 1

    run(test)


def test_a_fault_stays_with_the_request_that_caused_it() -> None:
    async def test(batcher: Batcher, work: Work) -> None:
        good, bad, other = (batcher.submit("m", texts) for texts in ("ab", "x", "c"))
        work.go.set()
        assert (len(await good), len(await other)) == (2, 1)
        with pytest.raises(ValueError, match="x"):
            await bad
        assert len(await batcher.submit("m", "d")) == 1

    run(test)
