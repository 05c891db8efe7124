"""What launchers tell a process in its environment: torchrun's variables, and SLURM's."""

from __future__ import annotations

import re
from collections.abc import Mapping

from stages.core.errors import HostError, printable

# PyTorch's name of each number: SLURM's names for it, the first that is set.
SLURM = {
    "RANK": ("SLURM_PROCID",),
    "WORLD_SIZE": ("SLURM_STEP_NUM_TASKS", "SLURM_NTASKS"),
}
FIRST_PORT, PORTS = 20_000, 20_000


def rank_variables(environment: Mapping[str, str]) -> dict[str, str] | None:
    """Return this process's place under PyTorch's names, None if no launcher started it.

    The names are RANK, WORLD_SIZE, LOCAL_RANK, LOCAL_WORLD_SIZE, and MASTER_ADDR and MASTER_PORT,
    where all processes meet. In the script of a SLURM job, outside of srun, there is one process
    only, whatever SLURM_NTASKS says.

    Raises:
        HostError: if a number is missing or impossible.
    """
    if "RANK" in environment and "WORLD_SIZE" in environment:
        names = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE")
        place = {"LOCAL_RANK": "0", "LOCAL_WORLD_SIZE": "1"}
        place |= {name: environment[name] for name in names if name in environment}
    elif "SLURM_PROCID" in environment and {"SLURM_STEP_ID", "MASTER_ADDR"} & set(environment):
        place = _of_slurm(environment)
    else:
        return None
    _check(place)
    if place["WORLD_SIZE"] == "1":
        return place
    for name in ("MASTER_ADDR", "MASTER_PORT"):
        place[name] = environment.get(name) or place.get(name, "")
        if not place[name]:
            raise HostError(
                f"{name} is not set, but WORLD_SIZE is {place['WORLD_SIZE']}",
                "start the processes with torchrun or srun, or set MASTER_ADDR and MASTER_PORT to "
                "an address of the first machine and a free port of it, the same for all",
            )
    return place


def _of_slurm(environment: Mapping[str, str]) -> dict[str, str]:
    """Return the place of a process that srun started; the first node is where all meet."""
    place = {
        name: next((environment[key] for key in keys if key in environment), "1")
        for name, keys in SLURM.items()
    }
    place["LOCAL_RANK"] = environment.get("SLURM_LOCALID", "0")
    node = environment.get("SLURM_NODEID", "0")
    tasks = environment.get("SLURM_STEP_TASKS_PER_NODE", environment.get("SLURM_TASKS_PER_NODE"))
    counts = tasks_per_node(tasks or place["WORLD_SIZE"])
    index = int(node) if node.isdigit() else 0
    place["LOCAL_WORLD_SIZE"] = str(counts[min(index, len(counts) - 1)])
    nodes = environment.get("SLURM_STEP_NODELIST") or environment.get("SLURM_JOB_NODELIST", "")
    if nodes:
        place["MASTER_ADDR"] = first_node(nodes)
    job = environment.get("SLURM_JOB_ID", "0")
    place["MASTER_PORT"] = str(FIRST_PORT + int(job if job.isdigit() else 0) % PORTS)
    return place


def tasks_per_node(counts: str) -> list[int]:
    """Return the tasks of each node: "2(x3),1" is [2, 2, 2, 1].

    Raises:
        HostError: if it is written in another way.
    """
    tasks: list[int] = []
    for part in counts.split(","):
        found = re.fullmatch(r"(\d+)(?:\(x(\d+)\))?", part.strip())
        if found is None:
            raise HostError(
                f"SLURM_STEP_TASKS_PER_NODE: {printable(counts)}: not understood",
                "start the processes with srun or torchrun",
            )
        tasks += [int(found[1])] * int(found[2] or 1)
    return tasks


def first_node(nodes: str) -> str:
    """Return the first host of SLURM's list: "node[07-09,12],gpu1" is node07."""
    found = re.match(r"([^\[,]+)(?:\[(\d+)[^\]]*\]([^,\[]*))?", nodes)
    return "".join(part or "" for part in found.groups()) if found else nodes


def _check(place: Mapping[str, str]) -> None:
    """Raise a HostError unless the numbers are such as can be."""
    if all(re.fullmatch(r"\d{1,6}", place[name]) for name in place if name[0] != "M"):
        rank, size, local_rank, local_size = (
            int(place[name]) for name in ("RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE")
        )
        if rank < size and local_rank < max(local_size, 1) <= size:
            return
    shown = ", ".join(f"{name}={printable(place[name], 20)}" for name in place if name[0] != "M")
    raise HostError(
        f"the environment's {shown} do not fit together",
        "start the processes with torchrun or srun, or unset these variables to run in one process",
    )
