"""The Hub: only pinned revisions, only the files that are needed, one line for each error."""

import io
import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tests.support.hub_server import REVISION, SOURCE, ask, hub
from tests.support.model_files import MODEL, SAFETENSORS, pieces, write_files


def test_hub_model_brings_only_the_needed_files(tmp_path: Path) -> None:
    shard = "model-00001-of-00001.safetensors"
    wanted = {
        "config.json": b'{"model_type": "albert"}',
        "model.safetensors.index.json": json.dumps({"weight_map": {"w": shard}}).encode(),
        shard: SAFETENSORS,
        "spiece.model": pieces(),
    }
    others = dict.fromkeys(("model.fp16.safetensors", "vocab.bak", "pytorch_model.bin"), b"x")
    others |= {"onnx/model.onnx": b"x", "code.py": b"x"}
    with hub({"models/owner/name": {**wanted, **others}}) as server:
        done = ask(server, "locate_model", SOURCE, tmp_path, **{"HF_TOKEN": "hf_test"})
    assert (done.returncode, done.stderr) == (0, "")
    assert all(f"'{name}': " in done.stdout for name in wanted)
    assert f"origin='{SOURCE}'" in done.stdout
    asked = " ".join(server.asked)
    assert all(f"/{name}" in asked for name in wanted)
    assert not any(f"/{name}" in asked for name in others)
    assert server.tokens == {"Bearer hf_test"}


def parquet(rows: int) -> bytes:
    """Return a table with a declared integer label, as a Hub data set has it."""
    features = {
        "text": {"dtype": "string", "_type": "Value"},
        "label": {"names": ["neg", "pos"], "_type": "ClassLabel"},
    }
    table = pa.table(
        {"text": [f"row {i}" for i in range(rows)], "label": [i % 2 for i in range(rows)]}
    )
    about = {"huggingface": json.dumps({"info": {"features": features}})}
    file = io.BytesIO()
    pq.write_table(table.replace_schema_metadata(about), file)
    return file.getvalue()


def test_hub_data_brings_its_splits_and_label_names(tmp_path: Path) -> None:
    repo = {
        "data/train-00000-of-00001.parquet": parquet(6),
        "data/test-00000-of-00001.parquet": parquet(4),
        "data/unsupervised-00000-of-00001.parquet": parquet(2),
        "README.md": b"---\nconfigs:\n- config_name: default\n  data_files:\n"
        + b"".join(
            b"  - split: %b\n    path: data/%b-*\n" % (s, s)
            for s in (b"train", b"test", b"unsupervised")
        )
        + b"---\n",
    }
    # A folder of that name must not replace the pinned revision.
    write_files(tmp_path / "owner" / "name", {"train.csv": b"text,label\nlocal,0\n"})
    with hub({"datasets/owner/name": repo}) as server:
        done = ask(server, "locate_data", SOURCE, tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    assert "ignored splits: unsupervised" in done.stdout
    assert "label_names=('neg', 'pos')" in done.stdout
    train = pq.read_table(tmp_path / "fetched" / "train.parquet")
    assert train.to_pydict() == {"text": [f"row {i}" for i in range(6)], "label": [0, 1] * 3}
    assert pq.read_table(tmp_path / "fetched" / "test.parquet").num_rows == 4
    assert server.tokens == {""}


ABSENT, EMPTY, TEST_ONLY = (f"owner/{name}@{REVISION}" for name in ("absent", "empty", "test"))
NO_REVISION = f"owner/name@{'0' * 40}"


def slow(*case: object) -> Any:
    return pytest.param(*case, marks=pytest.mark.slow)


@pytest.mark.parametrize(
    ("function", "source", "behaviour", "code", "message"),
    [
        ("locate_model", SOURCE, "500", 5, "500"),
        ("locate_data", SOURCE, "500", 5, "500"),
        ("locate_model", SOURCE, "hang", 5, "timed out"),
        slow("locate_data", SOURCE, "hang", 5, "timed out"),
        ("locate_model", ABSENT, "good", 5, "Repository Not Found"),
        slow("locate_data", ABSENT, "good", 5, "Repository Not Found"),
        slow("locate_model", NO_REVISION, "good", 5, "Revision Not Found"),
        ("locate_model", SOURCE, "good", 4, "pickle weights are refused"),
        ("locate_data", SOURCE, "good", 5, "owner/name"),
        slow("locate_model", EMPTY, "good", 4, "holds no config.json"),
        slow("locate_data", TEST_ONLY, "good", 3, "has no split train"),
    ],
)
def test_what_the_hub_cannot_give_is_one_line(
    function: str, source: str, behaviour: str, code: int, message: str, tmp_path: Path
) -> None:
    repos = {
        "models/owner/name": {"config.json": b"{}", "pytorch_model.bin": b"x"},
        "models/owner/empty": {"README.md": b""},
        "datasets/owner/name": {"picture.bin": b"x"},
        "datasets/owner/test": {"test.parquet": parquet(2)},
    }
    with hub(repos, behaviour) as server:
        done = ask(server, function, source, tmp_path, HF_HUB_ETAG_TIMEOUT="1")
    assert done.stderr.startswith("error: ")
    assert message in done.stderr
    assert done.stderr.count("\n") == 1
    assert done.returncode == code
    assert not list((tmp_path / "hf").rglob("*.bin"))


@pytest.mark.slow
def test_hub_that_falls_silent_half_way_ends_too(tmp_path: Path) -> None:
    with hub({"models/owner/name": MODEL}, "hang later") as server:
        limits = {"HF_HUB_ETAG_TIMEOUT": "1", "HF_HUB_DOWNLOAD_TIMEOUT": "1"}
        done = ask(server, "locate_model", SOURCE, tmp_path, **limits)
    assert "the Hub did not give it" in done.stderr
    assert done.returncode == 5


@pytest.mark.slow
def test_cached_hub_model_needs_no_hub(tmp_path: Path) -> None:
    with hub({"models/owner/name": MODEL}) as server:
        assert ask(server, "locate_model", SOURCE, tmp_path).returncode == 0
    done = ask(server, "locate_model", SOURCE, tmp_path, HF_HUB_OFFLINE="1")
    assert (done.returncode, done.stderr) == (0, "")
