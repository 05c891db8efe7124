"""What torchrun and SLURM say of a process, and what they cannot mean."""

from __future__ import annotations

import pytest

from stages.core.errors import HostError
from stages.running.launchers import first_node, rank_variables, tasks_per_node

MEETING = {"MASTER_ADDR": "node1", "MASTER_PORT": "29500"}
TORCHRUN = {"RANK": "5", "WORLD_SIZE": "8", "LOCAL_RANK": "1", "LOCAL_WORLD_SIZE": "4", **MEETING}
SRUN = {
    "SLURM_JOB_ID": "41234",
    "SLURM_STEP_ID": "0",
    "SLURM_STEP_NUM_TASKS": "5",
    "SLURM_PROCID": "4",
    "SLURM_LOCALID": "1",
    "SLURM_NODEID": "1",
    "SLURM_STEP_TASKS_PER_NODE": "3,2",
    "SLURM_STEP_NODELIST": "gpu[07-08]",
}


def test_without_a_launcher_there_is_no_place() -> None:
    assert rank_variables({}) is None
    assert rank_variables({"LOCAL_RANK": "0", "MASTER_ADDR": "node1"}) is None


def test_torchruns_variables_are_taken() -> None:
    assert rank_variables(TORCHRUN) == TORCHRUN
    by_hand = {"RANK": "1", "WORLD_SIZE": "2", **MEETING}
    assert rank_variables(by_hand) == {"LOCAL_RANK": "0", "LOCAL_WORLD_SIZE": "1", **by_hand}


def test_sruns_variables_are_translated() -> None:
    assert rank_variables(SRUN) == {
        "RANK": "4",
        "WORLD_SIZE": "5",
        "LOCAL_RANK": "1",
        "LOCAL_WORLD_SIZE": "2",
        "MASTER_ADDR": "gpu07",
        "MASTER_PORT": "21234",
    }
    chosen = rank_variables({**SRUN, **MEETING})
    assert chosen is not None
    assert (chosen["MASTER_ADDR"], chosen["MASTER_PORT"]) == ("node1", "29500")


def test_the_script_of_a_job_is_one_process_however_many_tasks_it_asks_for() -> None:
    script = {"SLURM_PROCID": "0", "SLURM_NTASKS": "4", "SLURM_LOCALID": "0", "SLURM_JOB_ID": "7"}
    assert rank_variables(script) is None


def test_one_process_needs_no_meeting_place() -> None:
    place = rank_variables({"RANK": "0", "WORLD_SIZE": "1"})
    assert place is not None
    assert place["WORLD_SIZE"] == "1"


@pytest.mark.parametrize(
    ("change", "part"),
    [
        ({"RANK": "8"}, "RANK=8, WORLD_SIZE=8"),
        ({"RANK": "-1"}, "RANK=-1"),
        ({"WORLD_SIZE": "many"}, "WORLD_SIZE=many"),
        ({"LOCAL_RANK": "4"}, "LOCAL_RANK=4"),
        ({"LOCAL_WORLD_SIZE": "9"}, "LOCAL_WORLD_SIZE=9"),
        ({"LOCAL_WORLD_SIZE": ""}, "LOCAL_WORLD_SIZE="),
    ],
)
def test_numbers_that_cannot_be_are_refused(change: dict[str, str], part: str) -> None:
    with pytest.raises(HostError) as caught:
        rank_variables({**TORCHRUN, **change})
    assert part in str(caught.value)
    assert "do not fit together" in str(caught.value)


@pytest.mark.parametrize("name", ["MASTER_ADDR", "MASTER_PORT"])
def test_several_processes_need_a_meeting_place(name: str) -> None:
    environment = {key: value for key, value in TORCHRUN.items() if key != name}
    with pytest.raises(HostError, match=f"{name} is not set, but WORLD_SIZE is 8"):
        rank_variables(environment)


@pytest.mark.parametrize(
    ("written", "counts"), [("4", [4]), ("2(x3),1", [2, 2, 2, 1]), ("1,2", [1, 2])]
)
def test_tasks_of_each_node(written: str, counts: list[int]) -> None:
    assert tasks_per_node(written) == counts


def test_tasks_written_otherwise_are_refused() -> None:
    with pytest.raises(HostError, match="SLURM_STEP_TASKS_PER_NODE"):
        tasks_per_node("two")


@pytest.mark.parametrize(
    ("nodes", "first"),
    [
        ("node1", "node1"),
        ("node1,node2", "node1"),
        ("node[07-09,12]", "node07"),
        ("gpu-a-[3,5-7],x1", "gpu-a-3"),
        ("rack[1-2]-ib", "rack1-ib"),
    ],
)
def test_the_first_node_is_where_all_meet(nodes: str, first: str) -> None:
    assert first_node(nodes) == first
