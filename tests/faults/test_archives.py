"""Faults of sources: archives, packages and hubs that are hostile, silent or wrong."""

from __future__ import annotations

import io
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path
from typing import Any

import pytest

from stages.core.errors import DataError, HostError
from stages.core.params import Params
from stages.sources.catalogue import open_member
from stages.sources.locate import locate_data
from tests.support.faults import assert_refused, call, code_of_stage
from tests.support.hub_server import REVISION
from tests.support.model_files import sha256
from tests.support.package_index import catalogue, mirror, wheel
from tests.support.tiny import ROOT, changed, save_params

ROWS = b"1\t0.5\tx"
CANARY = Path("CANARY")


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "target").write_text("not ours", encoding="utf-8")


@pytest.fixture
def locate(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Return a function that takes in/rows.txt from an archive that pip has downloaded."""

    def outside() -> dict[str, bytes]:
        return {k: v for k, v in contents(tmp_path).items() if not k.startswith("temp/")}

    def take(archive: bytes) -> dict[str, bytes]:
        known = catalogue(tmp_path, [mirror(("rows==1.0", "0" * 64))], {"rows.txt": ROWS})
        (tmp_path / "temp").mkdir()
        file = tmp_path / "temp/archive"
        file.write_bytes(archive)
        monkeypatch.setattr("stages.sources.catalogue.download", lambda *_: file)
        before = outside()
        try:
            locate_data("mine", tmp_path / "temp", known)
        finally:
            assert outside() == before
            assert not Path("/tmp/evil-member").exists()  # noqa: S108  # must not be there
        return contents(tmp_path / "temp")

    return take


def contents(folder: Path) -> dict[str, bytes]:
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file()
    }


def tar(*members: tuple[tarfile.TarInfo, bytes]) -> bytes:
    archive = io.BytesIO()
    with tarfile.open(fileobj=archive, mode="w:gz") as file:
        for member, content in members:
            member.size = len(content)
            file.addfile(member, io.BytesIO(content))
    return archive.getvalue()


def member_of(name: str, kind: bytes = tarfile.REGTYPE, link: str = "") -> tarfile.TarInfo:
    member = tarfile.TarInfo(name)
    member.type, member.linkname = kind, link
    return member


GOOD = (member_of("in/rows.txt"), ROWS)


def test_archive_members_that_point_outside_are_not_extracted(tmp_path: Path, locate: Any) -> None:
    tricks = [
        member_of("../../evil"),
        member_of("/tmp/evil-member"),  # noqa: S108  # must not be written
        member_of("C:\\evil"),
        member_of("in/link", tarfile.SYMTYPE, str(tmp_path / "target")),
        member_of("in/hard", tarfile.LNKTYPE, str(tmp_path / "target")),
        member_of("in/device", tarfile.CHRTYPE),
    ]
    written = locate(tar(*((trick, b"") for trick in tricks), GOOD))
    names = {Path(name).name for name in written}
    assert "rows.txt" in names
    assert not any(trick in name for name in names for trick in ("evil", "link", "hard", "device"))


@pytest.mark.guard("regular member")
@pytest.mark.parametrize("kind", [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.FIFOTYPE])
def test_an_archive_member_that_is_not_a_regular_file_is_refused(
    kind: bytes, tmp_path: Path
) -> None:
    target = "in/there.txt" if kind == tarfile.LNKTYPE else "there.txt"  # the rows
    members = [(member_of("in/there.txt"), ROWS), (member_of("in/rows.txt", kind, target), b"")]
    (tmp_path / "a.tar.gz").write_bytes(tar(*members))
    with (
        pytest.raises(DataError, match=r"a.tar.gz: no archive that .* file in/rows\.txt"),
        open_member(tmp_path / "a.tar.gz", "in/rows.txt", DataError),
    ):
        pass


@pytest.mark.guard("hash of a member")
def test_the_last_of_two_members_of_one_name_must_have_the_hash(locate: Any) -> None:
    with pytest.raises(DataError, match="expected sha256"):
        locate(tar(GOOD, (member_of("in/rows.txt"), b"1\t0.5\ty")))


@pytest.mark.guard("size of a member")
def test_a_zip_bomb_stops_at_the_size_in_the_catalogue(tmp_path: Path, locate: Any) -> None:
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED) as file:
        file.writestr("in/rows.txt", bytes(50_000_000))
    bomb = archive.getvalue()
    with pytest.raises(DataError, match=f"expected {len(ROWS)} bytes, got more"):
        locate(bomb)
    assert sum(map(len, contents(tmp_path / "temp").values())) < 3 * len(bomb)


def test_a_package_is_neither_installed_nor_imported(tmp_path: Path, index: Path) -> None:
    evil = f"open({str(tmp_path / 'CANARY')!r}, 'w')"
    members = {"in/rows.txt": ROWS, "evil.pth": f"import os; {evil}".encode()}
    package = wheel(index, "rows", {**members, "rows/__init__.py": evil.encode()})
    known = catalogue(tmp_path, [mirror(package)], {"rows.txt": ROWS})
    (tmp_path / "temp").mkdir()
    assert locate_data("mine", tmp_path / "temp", known).splits["all"][0].read_bytes() == ROWS
    assert not CANARY.exists()
    imported = subprocess.run([sys.executable, "-c", "import rows"], capture_output=True)
    assert b"No module named 'rows'" in imported.stderr
    assert not CANARY.exists()


@pytest.mark.guard("wheels only")
def test_a_source_archive_that_was_not_requested_is_not_run(tmp_path: Path, index: Path) -> None:
    setup = f"open({str(tmp_path / 'CANARY')!r}, 'w')".encode()
    about = b"Metadata-Version: 2.1\nName: rows\nVersion: 1.0\n"
    files = {"rows-1.0/PKG-INFO": about, "rows-1.0/setup.py": setup}
    archive = tar(*((member_of(name), content) for name, content in files.items()))
    (index / "rows-1.0.tar.gz").write_bytes(archive)
    known = catalogue(tmp_path, [mirror(("rows==1.0", sha256(archive)))], {"rows.txt": ROWS})
    (tmp_path / "temp").mkdir()
    with pytest.raises(HostError, match=r"No matching distribution found for rows==1\.0"):
        locate_data("mine", tmp_path / "temp", known)
    assert not CANARY.exists()


OFFLINE = """
import sys
def watch(event, arguments):
    if event in ("socket.connect", "socket.getaddrinfo"):
        print("CONNECT", arguments[1:], flush=True)
sys.addaudithook(watch)
"""


def test_a_model_that_is_not_cached_is_reported_without_a_connection(params: Params) -> None:
    save_params(changed(params, model__source=f"owner/name@{REVISION}"))
    code = OFFLINE + code_of_stage("fetch_base")
    offline = {"HF_HUB_OFFLINE": "1", "HF_HOME": str(Path("hf").absolute())}  # read at import
    done = call(sys.executable, "-c", code, **offline, PYTHONPATH=str(ROOT))
    output = assert_refused(done, 5, "the Hub did not give it", f"owner/name@{REVISION}")
    assert "CONNECT" not in output


HASHED = ROOT / ".github/requirements.txt"


def test_every_package_is_pinned_and_hashed() -> None:
    lines = HASHED.read_text(encoding="utf-8").replace("\\\n", " ").splitlines()
    pinned = [line.split() for line in lines if line and not line.startswith("#")]
    assert len(pinned) > 100
    for name, *hashes in pinned:
        assert "==" in name
        assert hashes
        assert all(len(sha.removeprefix("--hash=sha256:")) == 64 for sha in hashes), name
    constraints = (ROOT / ".github/constraints.txt").read_text(encoding="utf-8").splitlines()
    versions = {line for line in constraints if line and not line.startswith("#")}
    unpinned = {name.partition("==")[0] for name, *_ in pinned if name not in versions}
    assert unpinned == {"pip", "setuptools"}  # what pip freeze leaves out
