"""Faults of DVC and the disk: locks, no space, killed experiments, damaged or missing files."""

from __future__ import annotations

import json
import os
import random
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from stages.core import paths
from stages.running.dvc import Recorded, cache_folder, recorded_outputs
from stages.tools.verify import stored_faults
from tests.support.faults import (
    Run,
    assert_refused,
    assert_soon,
    assert_succeeded,
    bert_lora,
    call,
    dvc,
    file_hashes,
    is_running,
    mount_or_skip,
    return_to_last_commit,
    run_fix,
    run_successfully,
    stage,
)

RWLOCK = Path(".dvc/tmp/rwlock")
RANDOM = random.Random(0)  # noqa: S311  # where to flip or cut
pytestmark = pytest.mark.usefixtures("dvc_project")


def flip_bit(path: Path, offset: int) -> None:
    """Flip a bit of a file and keep it read-only, as bad hardware does."""
    mode = path.stat().st_mode
    path.chmod(0o644)
    content = bytearray(path.read_bytes())
    content[offset] ^= 1
    path.write_bytes(content)
    path.chmod(mode)


def truncate(path: Path, size: int) -> None:
    mode = path.stat().st_mode
    path.chmod(0o644)
    os.truncate(path, size)
    path.chmod(mode)


def cached_objects() -> list[Path]:
    return sorted(path for path in Path(".dvc/cache/files/md5").rglob("*") if path.is_file())


def first_fault(records: list[Recorded]) -> str:
    """Return the first fault that verify reports of the stored bytes, or an empty string."""
    return next((what for what, _ in stored_faults(records, cache_folder())), "")


def test_verify_accepts_the_outputs_of_a_run() -> None:
    assert "intact in workspace and cache" in assert_succeeded(bert_lora("verify"))
    assert first_fault(recorded_outputs()) == ""


@pytest.mark.guard("damaged lock")
@pytest.mark.parametrize(
    "content",
    [
        *("", "{", "[]", "null", '{"a": 1}', '{"a": {"write": {"pid": "x"}}}'),
        '{"a": {"write": {"pid": 100000000000000000000}}}',
    ],
)
def test_a_damaged_lock_of_dvc_is_named(content: str) -> None:
    RWLOCK.write_text(content, encoding="utf-8")
    run_fix(assert_refused(bert_lora("verify"), 5, f"error: {RWLOCK}: damaged"))
    assert dvc("status", "--json").strip() == "{}"


def test_a_lock_of_a_dead_process_blocks_nothing() -> None:
    dead = subprocess.Popen([sys.executable, "-c", ""])
    dead.wait()
    holder = {"write": {str(paths.TRAIN.absolute()): {"pid": dead.pid, "cmd": "dvc repro"}}}
    RWLOCK.write_text(json.dumps(holder), encoding="utf-8")
    assert_succeeded(bert_lora("verify"))
    dvc("repro")


@pytest.mark.guard("held lock")
def test_a_lock_of_a_living_process_is_named() -> None:
    living = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
    try:
        holder = {"read": {str(paths.TRAIN.absolute()): [{"pid": living.pid, "cmd": "dvc repro"}]}}
        RWLOCK.write_text(json.dumps(holder), encoding="utf-8")
        assert_refused(
            bert_lora("verify"), 5, f"held by process {living.pid}", f"kill {living.pid}"
        )
    finally:
        living.kill()
        living.wait()


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
def test_a_killed_experiment_is_undone_by_the_command_of_verify() -> None:
    before, branch = file_hashes(), run_successfully("git", "symbolic-ref", "HEAD")
    command = [sys.executable, "-m", "dvc", "exp", "run", "-S", "train.epochs=500"]
    command += ["-S", "train.patience=0"]
    environment = {**os.environ, "PYTHONPATH": str(Path.cwd())}
    process = subprocess.Popen(
        command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env=environment
    )
    assert_soon(lambda: any(paths.CHECKPOINTS.glob("checkpoint-*")))
    process.kill()
    process.wait()
    assert_soon(lambda: not is_running("train_lora"), 5)
    assert run_successfully("git", "branch", "--show-current") == ""  # DVC works on a commit
    return_to_last_commit(assert_refused(bert_lora("verify"), 5, "a run was cut off"))
    assert file_hashes() == before
    assert run_successfully("git", "symbolic-ref", "HEAD") == branch
    assert run_successfully("git", "status", "--porcelain") == ""
    dvc("repro")


@pytest.mark.slow
def test_a_killed_queue_keeps_the_finished_experiments() -> None:
    for epochs in (0, 600, 1):
        settings = ["-S", f"train.epochs={epochs}", "-S", "train.patience=0"]
        dvc("exp", "run", "--queue", "-n", f"epochs-{epochs}", *settings)
    start = [sys.executable, "-m", "dvc", "queue", "start"]
    environment = {**os.environ, "PYTHONPATH": str(Path.cwd())}
    subprocess.run(
        start, stdout=subprocess.DEVNULL, env=environment, check=True
    )  # kept by the worker
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


@pytest.mark.guard("hash of an object")
def test_a_flipped_bit_in_the_cache_is_named_and_repaired() -> None:
    weights = next(r for r in recorded_outputs() if r.path == paths.ADAPTER_WEIGHTS)
    damaged = Path(".dvc/cache/files/md5") / weights.md5[:2] / weights.md5[2:]
    flip_bit(damaged, 1000)
    assert dvc("status", "--json").strip() == "{}"  # DVC itself does not notice
    output = assert_refused(
        bert_lora("verify"), 5, f"{paths.ADAPTER_WEIGHTS}: its object", "damaged"
    )
    run_fix(output)
    assert_succeeded(bert_lora("verify"))


@pytest.mark.slow
def test_an_output_damaged_in_cache_and_workspace_is_made_again() -> None:
    weights = next(r for r in recorded_outputs() if r.path == paths.TFIDF_PREDICTIONS)
    flip_bit(Path(".dvc/cache/files/md5") / weights.md5[:2] / weights.md5[2:], 1000)
    flip_bit(paths.TFIDF_PREDICTIONS, 1000)
    run_fix(assert_refused(bert_lora("verify"), 5, "is damaged"))
    assert_succeeded(bert_lora("verify"))
    assert run_successfully("git", "status", "--porcelain") == ""


def test_a_damaged_file_of_the_workspace_is_checked_out_again() -> None:
    flip_bit(paths.BASE_MODEL / "model.safetensors", 5000)
    run_fix(assert_refused(bert_lora("verify"), 5, "models/base/model.safetensors: is not what"))
    assert_succeeded(bert_lora("verify"))


@pytest.mark.guard("hash of a metrics file")
def test_metrics_edited_by_hand_are_named() -> None:
    text = paths.ADAPTER_METRICS.read_text(encoding="utf-8")
    paths.ADAPTER_METRICS.write_text(text.replace("0.", "0.9", 1), encoding="utf-8")
    run_fix(
        assert_refused(
            bert_lora("verify"), 5, "metrics/adapter.json: is not what evaluate_adapter wrote"
        )
    )
    assert_succeeded(bert_lora("verify"))


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


@pytest.mark.slow
def test_a_missing_object_is_named_and_repaired() -> None:
    for name in (paths.ADAPTER_WEIGHTS, paths.BASE_MODEL, paths.FIGURES):
        record = next(r for r in recorded_outputs() if r.path == name)
        (Path(".dvc/cache/files/md5") / record.md5[:2] / record.md5[2:]).unlink()
        run_fix(
            assert_refused(bert_lora("verify"), 5, f"{name}: its object in the cache is missing")
        )
        assert_succeeded(bert_lora("verify"))


@pytest.mark.guard("changed inputs")
def test_verify_names_inputs_that_changed_since_the_run() -> None:
    text = paths.PARAMS.read_text(encoding="utf-8")
    paths.PARAMS.write_text(text.replace('"r": 4', '"r": 5'), encoding="utf-8")
    assert_refused(
        bert_lora("verify"), 5, "stage train_lora: has not run since a change of params.yaml lora"
    )


def test_a_record_that_the_report_does_not_show_yet_is_a_note() -> None:
    paths.SEEDS.write_text("[ ]\n", encoding="utf-8")
    output = assert_succeeded(bert_lora("verify"))
    assert (
        "note: the report does not show metrics/records/seeds.json yet: dvc repro compare" in output
    )


@pytest.mark.guard("scores of the predictions")
def test_verify_scores_the_predictions_again() -> None:
    """Metrics that were changed and then committed to dvc.lock do not fit the predictions."""
    content = json.loads(paths.ADAPTER_METRICS.read_text(encoding="utf-8"))
    paths.ADAPTER_METRICS.write_text(json.dumps({**content, "accuracy": 0.999}), encoding="utf-8")
    dvc("commit", "--force", "-q")
    assert_refused(
        bert_lora("verify"), 3, "metrics/adapter.json: accuracy 0.999, the predictions give"
    )
