"""Faults of DVC and the disk: locks, no space, killed experiments, damaged or missing files."""

from __future__ import annotations

import json
import os
import random
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from stages.core import paths
from stages.core.errors import exit_code_of
from stages.core.params import load_params
from stages.running.dvc import Recorded, cache_folder, object_of, recorded_outputs
from stages.tools.verify import stored_faults, verify
from tests.support.faults import (
    Run,
    assert_ends,
    assert_refused,
    assert_soon,
    assert_succeeded,
    bert_lora,
    call,
    dvc,
    file_hashes,
    mount_or_skip,
    run_fix,
    run_successfully,
    stage,
    up_to_date,
)
from tests.support.processes import Started

RWLOCK = Path(".dvc/tmp/rwlock")
RANDOM = random.Random(0)  # noqa: S311  # where to flip or cut
WEIGHTS = paths.BASE_MODEL / "model.safetensors"
Capture = pytest.CaptureFixture[str]
pytestmark = pytest.mark.usefixtures("dvc_project")


def check() -> None:
    """Run verify in the test's own process."""
    verify(load_params())


def flip_bit(path: Path, offset: int) -> None:
    """Flip a bit of a file and keep it read-only, as bad hardware does."""
    mode = path.stat().st_mode
    path.chmod(0o644)
    content = bytearray(path.read_bytes())
    content[offset] ^= 1
    path.write_bytes(content)
    path.chmod(mode)


def cached_objects() -> list[Path]:
    return sorted(path for path in Path(".dvc/cache/files/md5").rglob("*") if path.is_file())


def first_fault(records: list[Recorded]) -> str:
    """Return the first fault that verify reports of the stored bytes, or an empty string."""
    return next((what for what, _ in stored_faults(records, cache_folder())), "")


def accepted() -> bool:
    """Return whether verify accepts the project."""
    return exit_code_of(check) == 0


def test_verify_accepts_the_outputs_of_a_run() -> None:
    assert "intact in workspace and cache" in assert_succeeded(bert_lora("verify"))
    assert first_fault(recorded_outputs()) == ""


@pytest.mark.guard("damaged lock")
def test_a_damaged_lock_of_dvc_is_named(capsys: Capture) -> None:
    pids = (f'{{"a": {{"write": {{"pid": {pid}}}}}}}' for pid in ('"x"', 100000000000000000000))
    for content in ("", "{", "[]", "null", '{"a": 1}', *pids):
        RWLOCK.write_text(content, encoding="utf-8")
        output = assert_ends(check, capsys, 5, f"error: {RWLOCK}: damaged")
    run_fix(output)
    assert up_to_date()


def test_a_lock_of_a_dead_process_blocks_nothing() -> None:
    dead = subprocess.Popen([sys.executable, "-c", ""])
    dead.wait()
    holder = {"write": {str(paths.TRAIN.absolute()): {"pid": dead.pid, "cmd": "dvc repro"}}}
    RWLOCK.write_text(json.dumps(holder), encoding="utf-8")
    assert accepted()
    dvc("repro")


@pytest.mark.guard("held lock")
def test_a_lock_of_a_living_process_is_named(capsys: Capture) -> None:
    own = os.getpid()
    holder = {"read": {str(paths.TRAIN.absolute()): [{"pid": own, "cmd": "dvc repro"}]}}
    RWLOCK.write_text(json.dumps(holder), encoding="utf-8")
    assert_ends(check, capsys, 5, f"held by process {own}", f"kill {own}")


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """Return the folder of a file system of 1 MiB."""
    folder = tmp_path / "small"
    folder.mkdir()
    mount_or_skip(folder, "-t", "tmpfs", "-o", "size=1m", "tmpfs")
    yield folder
    run_successfully("umount", str(folder))


@pytest.mark.guard("free space")
def test_a_full_cache_fails_and_loses_nothing(small_disk: Path) -> None:
    dvc("cache", "dir", "--local", str(small_disk))
    before = file_hashes()
    done = call(sys.executable, "-m", "dvc", "repro", "--force", "--single-item", "evaluate_tfidf")
    assert done.returncode != 0
    assert f"error: {small_disk}: 1 MB free, 20 MB are needed. Fix: free some space" in done.stdout
    run_successfully("git", "checkout", "dvc.lock", "metrics")
    after = file_hashes()
    assert after.items() >= {k: v for k, v in before.items() if "tfidf" not in k}.items()
    room = f"error: {small_disk}: 1 MB free"
    assert_refused(bert_lora("verify"), 5, "its object in the cache is missing", room)
    Path(".dvc/config.local").unlink()
    dvc("checkout", "--force")
    assert file_hashes() == before


def test_outputs_of_a_first_run_must_fit_into_the_cache(small_disk: Path) -> None:
    """A stage without a record is checked once its outputs are written."""
    dvc("cache", "dir", "--local", str(small_disk))
    code = (
        "from pathlib import Path; import os\n"
        "from stages.running import dvc; dvc.SPARE = 0\n"
        "from stages.core.errors import exit_code_of\n"
        "def work():\n"
        "    with dvc.enough_room('fetch_base'):\n"
        "        Path('models/base/model.safetensors').write_bytes(bytes(3_000_000))\n"
        "import sys; sys.exit(exit_code_of(work))"
    )
    paths.LOCK.unlink()
    assert_refused(Run(code, DVC_STAGE="fetch_base").finish(), 5, "1 MB free, 3 MB are")


def test_a_full_workspace_keeps_the_old_adapter(small_disk: Path) -> None:
    for name in ("base", "head", "adapter"):
        shutil.copytree(Path("models") / name, small_disk / name)
    shutil.rmtree("models")
    Path("models").symlink_to(small_disk)
    before = {p.name: p.read_bytes() for p in paths.ADAPTER.iterdir()}
    filler = small_disk / "filler"
    filler.write_bytes(
        bytes(os.statvfs(small_disk).f_bavail * os.statvfs(small_disk).f_frsize - 8192)
    )
    assert_refused(stage("train_lora"), 5, "no space left", "free some space")
    assert {p.name: p.read_bytes() for p in paths.ADAPTER.iterdir()} == before
    filler.unlink()
    assert not list(small_disk.rglob("*.tmp-*"))


@pytest.mark.slow
def test_a_killed_queue_keeps_the_finished_experiments() -> None:
    for epochs in (0, 600, 1):
        settings = ["-S", f"train.epochs={epochs}", "-S", "train.patience=0"]
        dvc("exp", "run", "--queue", "-n", f"epochs-{epochs}", *settings)
    started = Started(sys.executable, "-m", "dvc", "queue", "start")  # the worker keeps its output
    assert started.process.wait() == 0
    try:
        assert_soon(
            lambda: any(Path(".dvc/tmp/exps").glob(f"tmp*/{paths.CHECKPOINTS}/checkpoint-*")), 120
        )
        dvc("queue", "kill", "--force", "epochs-600")
        assert_soon(lambda: "Success" in queue_state("epochs-1"), 120)
    finally:
        call(sys.executable, "-m", "dvc", "queue", "stop", "--kill")
    assert "Success" in queue_state("epochs-0")
    assert "Failed" in queue_state("epochs-600")
    names = dvc("exp", "list", "--name-only").split()
    assert {"epochs-0", "epochs-1"} <= set(names)
    assert "epochs-600" not in names
    assert run_successfully("git", "status", "--porcelain") == ""


def queue_state(name: str) -> str:
    lines = dvc("queue", "status").splitlines()
    return next((line for line in lines if name in line.split()), "")


def stored(path: Path) -> Path:
    """Return the object in the cache of an output."""
    return object_of(cache_folder(), next(r.md5 for r in recorded_outputs() if r.path == path))


def in_cache_and_workspace() -> None:
    flip_bit(stored(paths.TFIDF_PREDICTIONS), 1000)
    flip_bit(paths.TFIDF_PREDICTIONS, 1000)


def edited(path: Path, old: str, new: str) -> None:
    text = path.read_text(encoding="utf-8")
    assert old in text
    path.write_text(text.replace(old, new, 1), encoding="utf-8")


slow = pytest.mark.slow
# What is damaged, and what verify says of it; its remedy repairs it.
DAMAGES: list[Any] = [
    (lambda: flip_bit(stored(paths.ADAPTER_WEIGHTS), 1000), f"{paths.ADAPTER_WEIGHTS}: its object"),
    (lambda: flip_bit(WEIGHTS, 5000), f"{WEIGHTS}: is not what"),
    (
        lambda: edited(paths.ADAPTER_METRICS, "0.", "0.9"),
        "metrics/adapter.json: is not what evaluate_adapter wrote",
    ),
    pytest.param(in_cache_and_workspace, "is damaged", marks=slow),
    *(
        pytest.param(lambda path=path: stored(path).unlink(), f"{path}: its object", marks=slow)
        for path in (paths.ADAPTER_WEIGHTS, paths.BASE_MODEL, paths.FIGURES)
    ),
]


@pytest.mark.guard("hash of an object")
@pytest.mark.guard("hash of a metrics file")
@pytest.mark.parametrize(("provoke", "message"), DAMAGES)
def test_what_is_damaged_or_missing_is_named_and_repaired(
    capsys: Capture, provoke: Callable[[], object], message: str
) -> None:
    provoke()
    run_fix(assert_ends(check, capsys, 5, message))
    assert accepted()
    assert run_successfully("git", "status", "--porcelain") == ""


@pytest.mark.slow
def test_verify_finds_300_of_300_flipped_bits() -> None:
    records = recorded_outputs()
    places = [*cached_objects(), *paths.BASE_MODEL.iterdir(), *paths.ADAPTER.iterdir()]
    for number in range(300):
        path = places[number % len(places)]
        offset = RANDOM.randrange(path.stat().st_size)
        flip_bit(path, offset)
        assert first_fault(records), f"{path} byte {offset}"
        flip_bit(path, offset)
    assert first_fault(records) == ""


@pytest.mark.guard("changed inputs")
def test_verify_names_inputs_that_changed_since_the_run(capsys: Capture) -> None:
    edited(paths.PARAMS, '"r": 4', '"r": 5')
    line = "stage train_lora: has not run since a change of params.yaml lora"
    assert_ends(check, capsys, 5, line)


def test_a_record_that_the_report_does_not_show_yet_is_a_note(capsys: Capture) -> None:
    paths.SEEDS.write_text("[ ]\n", encoding="utf-8")
    assert accepted()
    note = "note: the report does not show metrics/records/seeds.json yet: dvc repro compare"
    assert note in capsys.readouterr().out


@pytest.mark.guard("scores of the predictions")
def test_verify_scores_the_predictions_again(capsys: Capture) -> None:
    """Metrics that were changed and then committed to dvc.lock do not fit the predictions."""
    content = json.loads(paths.ADAPTER_METRICS.read_text(encoding="utf-8"))
    paths.ADAPTER_METRICS.write_text(json.dumps({**content, "accuracy": 0.999}), encoding="utf-8")
    dvc("commit", "--force", "-q")
    line = "metrics/adapter.json: accuracy 0.999, the predictions give"
    assert_ends(check, capsys, 3, line)
