"""How many processes share a stage, and whether a batch can be divided over them."""

from __future__ import annotations

from stages.core.errors import ParamsError
from stages.core.params import Params


def processes_of(params: Params) -> int:
    """Return how many processes the params mean on this machine: `auto` is one for each GPU.

    Raises:
        HostError: if the device is not here, or has to be shared.
        ParamsError: if a batch cannot be divided.
    """
    compute = params.compute
    if compute.processes == 1:  # torch is not imported for that
        return 1
    from stages.model.device_kinds import choose

    kind = choose(compute.device)
    count = kind.count() if compute.processes == "auto" else compute.processes
    kind.require(count)
    share_of(params.train.batch_size, count)
    return count


def share_of(batch_size: int, processes: int) -> int:
    """Return the rows of a batch that each process takes.

    Raises:
        ParamsError: if they are not a whole number.
    """
    if batch_size % processes:
        raise ParamsError(
            f"params.yaml: train.batch_size: {batch_size} rows cannot be divided over "
            f"{processes} processes",
            f"set train.batch_size to a multiple of {processes}, for example "
            f"{-(-batch_size // processes) * processes}",
        )
    return batch_size // processes
