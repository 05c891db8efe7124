"""What the processes of a stage say to one another: they join, gather and wait.

For a process alone each of these returns at once, with what it was given.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from datetime import timedelta
from typing import Any, TypeVar

import torch.distributed as dist
from torch.distributed.rendezvous import rendezvous

from stages.core.errors import HostError, printable
from stages.running.processes import World, lost, world

T = TypeVar("T")
JOIN_SECONDS = "BERT_LORA_JOIN_SECONDS"  # in the environment: how long all may take to join
WAIT = timedelta(minutes=30)  # for one another, later on: one may write a checkpoint meanwhile
LOST = re.compile(
    r"connection (closed|reset|refused)|broken pipe|time(d )?out|communicator was aborted",
    re.IGNORECASE,
)


def join(backend: str) -> None:
    """Connect with the other processes of this stage.

    Args:
        backend: PyTorch's name of what carries the messages, for example gloo.

    Raises:
        HostError: if the others do not join in time, naming those that are missing.
    """
    me = world()
    if me.size == 1 or dist.is_initialized():
        return
    typed = os.environ.get(JOIN_SECONDS, "300")
    patience = timedelta(seconds=int(typed) if re.fullmatch(r"[1-9]\d{0,5}", typed) else 300)
    store = None
    try:
        store = next(iter(rendezvous("env://", timeout=patience)))[0]
        store.set(f"here/{me.rank}", "1")
        store.wait([f"here/{rank}" for rank in range(me.size)], patience)
        dist.init_process_group(
            backend, store=store, rank=me.rank, world_size=me.size, timeout=WAIT
        )
    except (RuntimeError, ValueError) as error:
        raise _not_joined(me, store, patience, error) from None


def leave() -> None:
    """Disconnect, once the work is done."""
    if dist.is_initialized():
        dist.destroy_process_group()


def share() -> tuple[int, int]:
    """Return the number of this process, from 0, and how many share the work."""
    return (dist.get_rank(), dist.get_world_size()) if dist.is_initialized() else (0, 1)


def leads() -> bool:
    """Return whether this process is the first: it alone writes."""
    return share()[0] == 0


def gathered(item: T) -> list[T]:
    """Return the items of all processes in their order, the same on each."""
    size = share()[1]
    if size == 1:
        return [item]
    items: list[Any] = [None] * size
    dist.all_gather_object(items, item)
    return items


def gathered_by_first(item: T) -> list[T]:
    """Return the items of all processes in their order on the first; on the others their own."""
    rank, size = share()
    if size == 1:
        return [item]
    items: list[Any] | None = [None] * size if rank == 0 else None
    dist.gather_object(item, items)
    return [item] if items is None else items


def from_first(make: Callable[[], T]) -> T:
    """Return what `make` returns on the first process; the others do not call it."""
    rank, size = share()
    made: list[Any] = [make() if rank == 0 else None]
    if size > 1:
        dist.broadcast_object_list(made, src=0)
    return made[0]  # type: ignore[no-any-return]  # what the first process made


def wait_for_all() -> None:
    """Return once every process has come here."""
    gathered(None)


def is_lost(error: Exception) -> bool:
    """Return whether an error says that the connection to another process broke."""
    if share()[1] == 1:
        return False
    return isinstance(error, dist.DistError) or (
        isinstance(error, RuntimeError) and LOST.search(str(error)) is not None
    )


def run_connected(work: Callable[[], T]) -> T:
    """Return what `work` returns, and disconnect.

    Raises:
        LostError: if another process has ended in the middle of it.
    """
    try:
        result = work()
        leave()
    except Exception as error:
        if is_lost(error):
            raise lost() from None
        raise
    return result


def _not_joined(me: World, store: Any, patience: timedelta, error: Exception) -> HostError:
    place = f"{os.environ.get('MASTER_ADDR')}:{os.environ.get('MASTER_PORT')}"
    if re.search(r"EADDRINUSE|already in use", str(error)):
        return HostError(f"{place}: in use already", "set MASTER_PORT to a free port, for all")
    missing = []
    if store is not None:
        try:
            missing = [r + 1 for r in range(me.size) if not store.check([f"here/{r}"])]
        except RuntimeError:  # the store went with the process that had it
            missing = []
    who = f"process {', '.join(map(str, missing))}" if missing else "not every process"
    verb = "has not joined" if missing else "could join"
    seconds = int(patience.total_seconds())
    detail = "" if missing or store is None else f" ({printable(str(error).splitlines()[0], 120)})"
    return HostError(
        f"process {me.rank + 1} of {me.size}: {who} {verb} at {place} in {seconds} seconds{detail}",
        "see that all are started, that MASTER_ADDR and MASTER_PORT are the same for all and can "
        f"be reached from each machine; {JOIN_SECONDS} sets how long they wait",
    )
