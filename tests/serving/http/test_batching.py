"""What arrives together is computed together: fair shares, bounds, faults, the end."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence

import pytest

from stages.serving.http.batching import CALLS, Batcher, ClosedError, FullError

PATIENCE = 20  # seconds; nothing here takes that long


class Work:
    """Doubles numbers, once it is let; remembers its batches.

    Attributes:
        go: set to let it work.
        begun: set when the first batch has begun.
    """

    def __init__(self) -> None:
        self.go, self.begun = threading.Event(), threading.Event()
        self.batches: list[list[int]] = []

    def __call__(self, numbers: list[int]) -> Sequence[int]:
        """Return the doubles; 13 is a fault."""
        self.batches.append(numbers)
        self.begun.set()
        assert self.go.wait(PATIENCE)
        if 13 in numbers:
            raise ValueError("thirteen")
        return [2 * number for number in numbers]


@pytest.fixture
def work() -> Iterator[Work]:
    made = Work()
    yield made
    made.go.set()


def busy(work: Work, batch: int = 4, waiting: int = 10) -> Batcher[int, int]:
    """Return a batcher that computes a first question until the work is let go."""
    batcher = Batcher(work, batch, waiting)
    batcher.submit([0])
    assert work.begun.wait(PATIENCE)
    return batcher


def test_answers_come_in_the_order_of_the_questions(work: Work) -> None:
    work.go.set()
    batcher = Batcher(work, batch=3, waiting=100)
    assert batcher.submit(range(8)).result(PATIENCE) == [0, 2, 4, 6, 8, 10, 12, 14]
    assert max(map(len, work.batches)) == 3


def test_what_waits_is_computed_together(work: Work) -> None:
    batcher = busy(work)
    futures = [batcher.submit([number]) for number in (1, 2, 3)]
    assert batcher.waiting == 3
    work.go.set()
    assert [future.result(PATIENCE) for future in futures] == [[2], [4], [6]]
    assert work.batches == [[0], [1, 2, 3]]
    assert batcher.waiting == 0


def test_a_large_request_does_not_hold_up_a_small_one(work: Work) -> None:
    batcher = busy(work)
    large, small = batcher.submit([1, 2, 3, 4, 5, 6]), batcher.submit([7])
    work.go.set()
    assert small.result(PATIENCE) == [14]
    assert large.result(PATIENCE) == [2, 4, 6, 8, 10, 12]
    assert work.batches == [[0], [1, 2, 7], [3, 4, 5, 6]]


def test_more_requests_than_a_batch_holds_are_served_in_turn(work: Work) -> None:
    batcher = busy(work, batch=2)
    futures = [batcher.submit([number, 10 + number]) for number in (1, 2, 4)]
    work.go.set()
    assert [future.result(PATIENCE) for future in futures] == [[2, 22], [4, 24], [8, 28]]
    assert work.batches[1:] == [[1, 2], [11, 12], [4, 14]]


def test_a_full_queue_refuses_and_takes_again_later(work: Work) -> None:
    batcher = busy(work, waiting=3)
    first = batcher.submit([1, 2])
    with pytest.raises(FullError) as full:
        batcher.submit([3, 4])
    assert full.value.retry_after >= 1
    second = batcher.submit([3])
    work.go.set()
    assert (first.result(PATIENCE), second.result(PATIENCE)) == ([2, 4], [6])
    assert batcher.submit([3, 4, 5]).result(PATIENCE) == [6, 8, 10]


def test_a_fault_stays_with_the_request_that_caused_it(work: Work) -> None:
    batcher = busy(work)
    good, bad, other = (batcher.submit(numbers) for numbers in ([1], [13], [2]))
    work.go.set()
    assert (good.result(PATIENCE), other.result(PATIENCE)) == ([2], [4])
    with pytest.raises(ValueError, match="thirteen"):
        bad.result(PATIENCE)
    assert batcher.submit([5]).result(PATIENCE) == [10]


def test_the_rest_of_a_request_with_a_fault_is_not_computed(work: Work) -> None:
    work.go.set()
    batcher = Batcher(work, batch=2, waiting=10)
    with pytest.raises(ValueError, match="thirteen"):
        batcher.submit([1, 13, 2, 3, 4]).result(PATIENCE)
    assert batcher.submit([5]).result(PATIENCE) == [10]
    assert work.batches == [[1, 13], [5]]
    assert batcher.waiting == 0


def test_a_request_whose_client_left_is_not_computed(work: Work) -> None:
    batcher = busy(work)
    left, stays = batcher.submit([1, 2]), batcher.submit([3])
    assert left.cancel()
    work.go.set()
    assert stays.result(PATIENCE) == [6]
    assert work.batches == [[0], [3]]
    assert batcher.waiting == 0


def test_other_work_is_done_between_batches_and_bounded(work: Work) -> None:
    batcher = busy(work)
    futures = [batcher.call(lambda: threading.current_thread().name) for _ in range(CALLS)]
    with pytest.raises(FullError):
        batcher.call(lambda: None)
    assert futures[1].cancel()
    work.go.set()
    assert futures[0].result(PATIENCE) == futures[-1].result(PATIENCE) == "batches"
    with pytest.raises(ZeroDivisionError):
        batcher.call(lambda: 1 // 0).result(PATIENCE)
    assert batcher.alive


def test_closing_finishes_what_was_accepted(work: Work) -> None:
    batcher = busy(work)
    accepted, other = batcher.submit([1, 2, 3, 4, 5, 6]), batcher.call(lambda: "done")
    assert not batcher.close(timeout=0)
    with pytest.raises(ClosedError):
        batcher.submit([7])
    with pytest.raises(ClosedError):
        batcher.call(lambda: None)
    work.go.set()
    assert batcher.close(timeout=PATIENCE)
    assert accepted.result(0) == [2, 4, 6, 8, 10, 12]
    assert other.result(0) == "done"
    assert not batcher.alive


def test_each_batch_is_reported(work: Work) -> None:
    work.go.set()
    seen: list[tuple[int, bool]] = []
    batcher = Batcher(work, 2, 10, lambda size, seconds: seen.append((size, seconds >= 0)))
    batcher.submit([1, 2, 3]).result(PATIENCE)
    batcher.close(PATIENCE)
    assert seen == [(2, True), (1, True)]
