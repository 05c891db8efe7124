"""Rows 31, 32, 44 to 46 and 52: archives, packages and hubs that are hostile, silent or wrong."""

from __future__ import annotations

import io
import subprocess
import sys
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from stages.core.errors import DataError, HostError
from stages.core.params import Params
from stages.sources.locate import locate_data
from tests.support.faults import call, refused
from tests.support.hub_server import REVISION, ask, hub
from tests.support.model_files import MODEL, sha256
from tests.support.package_index import catalogue, mirror, wheel
from tests.support.tiny import ROOT, changed, save_params

ROWS = b"1\t0.5\tx"
CANARY = Path("CANARY")


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "target").write_text("not ours", encoding="utf-8")


def locate(archive: bytes, tmp_path: Path, index: Path, size: int = 20_000) -> dict[str, bytes]:
    """Take in/rows.txt out of an archive that a package carries; return what was written."""
    made = wheel(index, "rows", {"inner": archive})
    known = catalogue(tmp_path, [mirror((*made, "inner"))], {"rows.txt": ROWS}, size=size)
    temp = tmp_path / "temp"
    temp.mkdir()
    before = everything(tmp_path)
    try:
        locate_data("mine", temp, known)
    finally:
        outside = {k: v for k, v in everything(tmp_path).items() if not k.startswith("temp/")}
        assert outside == {k: v for k, v in before.items() if not k.startswith("temp/")}
        assert not Path("/tmp/evil-of-row-44").exists()  # noqa: S108  # must not be there
    return everything(temp)


def everything(folder: Path) -> dict[str, bytes]:
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file()
    }


def tar(*members: tuple[tarfile.TarInfo, bytes]) -> bytes:
    whole = io.BytesIO()
    with tarfile.open(fileobj=whole, mode="w:gz") as file:
        for member, content in members:
            member.size = len(content)
            file.addfile(member, io.BytesIO(content))
    return whole.getvalue()


def entry(name: str, kind: bytes = tarfile.REGTYPE, link: str = "") -> tarfile.TarInfo:
    member = tarfile.TarInfo(name)
    member.type, member.linkname = kind, link
    return member


GOOD = (entry("in/rows.txt"), ROWS)
TRICKS: dict[str, Callable[[Path], Any]] = {
    "dots": lambda _: entry("../../evil"),
    "root": lambda _: entry("/tmp/evil-of-row-44"),  # noqa: S108  # must not be written
    "drive": lambda _: entry("C:\\evil"),
    "link out": lambda at: entry("in/link", tarfile.SYMTYPE, str(at / "target")),
    "hard link": lambda at: entry("in/hard", tarfile.LNKTYPE, str(at / "target")),
    "device": lambda _: entry("in/device", tarfile.CHRTYPE),
}


@pytest.mark.parametrize("trick", TRICKS)
def test_row_44_members_that_reach_outside_are_left_where_they_are(
    trick: str, tmp_path: Path, index: Path
) -> None:
    found = locate(tar((TRICKS[trick](tmp_path), b""), GOOD), tmp_path, index)
    assert {Path(name).name for name in found} >= {"rows.txt"}
    assert not [name for name in found if "evil" in name or "link" in name or "device" in name]


@pytest.mark.parametrize("kind", [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.FIFOTYPE])
def test_row_44_a_wanted_member_that_is_no_file_is_refused(
    kind: bytes, tmp_path: Path, index: Path
) -> None:
    there = "in/there.txt" if kind == tarfile.LNKTYPE else "there.txt"  # it leads to the rows
    members = [(entry("in/there.txt"), ROWS), (entry("in/rows.txt", kind, there), b"")]
    with pytest.raises(DataError, match=r"holds no regular file in/rows\.txt"):
        locate(tar(*members), tmp_path, index)


def test_row_44_the_last_of_two_members_of_a_name_must_have_the_hash(
    tmp_path: Path, index: Path
) -> None:
    with pytest.raises(DataError, match="expected sha256"):
        locate(tar(GOOD, (entry("in/rows.txt"), b"1\t0.5\ty")), tmp_path, index)


def zipped(name: str, content: bytes, members: int = 1) -> bytes:
    whole = io.BytesIO()
    with zipfile.ZipFile(whole, "w", zipfile.ZIP_DEFLATED) as file:
        for number in range(members - 1):
            file.writestr(f"../{number}", b"")
        file.writestr(name, content)
    return whole.getvalue()


def test_row_45_a_bomb_stops_at_the_size_the_catalogue_knows(tmp_path: Path, index: Path) -> None:
    bomb = zipped("in/rows.txt", bytes(200_000_000))
    with pytest.raises(DataError, match=f"expected {len(ROWS)} bytes, got more"):
        locate(bomb, tmp_path, index, size=len(bomb))
    assert sum(map(len, everything(tmp_path / "temp").values())) < 3 * len(bomb)


@pytest.mark.slow
def test_row_45_a_hundred_thousand_members_are_not_unpacked(tmp_path: Path, index: Path) -> None:
    archive = zipped("in/rows.txt", ROWS, members=100_000)
    found = locate(archive, tmp_path, index, size=len(archive))
    assert len(found) < 10


def test_row_46_a_package_is_neither_installed_nor_imported(tmp_path: Path, index: Path) -> None:
    evil = f"open({str(tmp_path / 'CANARY')!r}, 'w')"
    members = {"in/rows.txt": ROWS, "evil.pth": f"import os; {evil}".encode()}
    made = wheel(index, "rows", {**members, "rows/__init__.py": evil.encode()})
    known = catalogue(tmp_path, [mirror(made)], {"rows.txt": ROWS})
    (tmp_path / "temp").mkdir()
    assert locate_data("mine", tmp_path / "temp", known).splits["all"].read_bytes() == ROWS
    assert not CANARY.exists()
    installed = subprocess.run([sys.executable, "-c", "import rows"], capture_output=True)
    assert b"No module named 'rows'" in installed.stderr
    assert not CANARY.exists()


def test_row_46_a_source_archive_that_was_not_asked_for_is_not_run(
    tmp_path: Path, index: Path
) -> None:
    with tarfile.open(index / "rows-1.0.tar.gz", "w:gz") as file:
        for name, content in {
            "PKG-INFO": b"Metadata-Version: 2.1\nName: rows\nVersion: 1.0\n",
            "setup.py": f"open({str(tmp_path / 'CANARY')!r}, 'w')".encode(),
        }.items():
            member = tarfile.TarInfo(f"rows-1.0/{name}")
            member.size = len(content)
            file.addfile(member, io.BytesIO(content))
    got = sha256((index / "rows-1.0.tar.gz").read_bytes())
    known = catalogue(tmp_path, [mirror(("rows==1.0", got))], {"rows.txt": ROWS})
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


def test_row_31_offline_a_model_that_is_not_cached_is_told_at_once(params: Params) -> None:
    save_params(changed(params, model__source=f"owner/name@{REVISION}"))
    code = OFFLINE + "from stages import fetch_base as it; it.run_stage(it.fetch_base)"
    offline = {"HF_HUB_OFFLINE": "1", "HF_HOME": str(Path("hf").absolute())}  # read at import
    done = call(sys.executable, "-c", code, **offline, PYTHONPATH=str(ROOT))
    said = refused(done, 5, "the Hub could not be reached", f"owner/name@{REVISION}")
    assert "CONNECT" not in said


@pytest.mark.parametrize("behaviour", ["hang", "500"])
def test_row_32_a_hub_that_is_silent_or_broken_ends_in_one_line(
    behaviour: str, tmp_path: Path
) -> None:
    with hub({"models/owner/name": MODEL}, behaviour) as server:
        source = f"owner/name@{REVISION}"
        done = ask(server, "locate_model", source, tmp_path, HF_HUB_ETAG_TIMEOUT="1")
    assert done.returncode == 5
    assert done.stderr.startswith("error: the Hub could not be reached")
    assert done.stderr.count("\n") == 1
    assert len(server.asked) < 10
    assert not list((tmp_path / "hf").rglob("*.safetensors*"))


HASHED = ROOT / ".github/requirements.txt"


def test_row_52_every_package_is_pinned_and_hashed() -> None:
    lines = HASHED.read_text(encoding="utf-8").replace("\\\n", " ").splitlines()
    pinned = [line.split() for line in lines if line and not line.startswith("#")]
    assert len(pinned) > 100
    for name, *hashes in pinned:
        assert "==" in name
        assert hashes
        assert all(len(one.removeprefix("--hash=sha256:")) == 64 for one in hashes), name
    constraints = (ROOT / ".github/constraints.txt").read_text(encoding="utf-8").splitlines()
    versions = {line for line in constraints if line and not line.startswith("#")}
    left = {name.partition("==")[0] for name, *_ in pinned if name not in versions}
    assert left == {"pip", "setuptools"}  # what pip freeze leaves out


def test_row_52_one_digit_of_a_hash_changed_is_refused(index: Path) -> None:
    requirement, right = wheel(index, "rows", {"rows.py": b""})
    wrong = ("1" if right[0] == "0" else "0") + right[1:]
    command = [sys.executable, "-m", "pip", "download", "-q", "--require-hashes", "-d", "got", "-r"]
    for sha, works in ((right, True), (wrong, False)):
        Path("wanted.txt").write_text(f"{requirement} --hash=sha256:{sha}\n", encoding="utf-8")
        done = subprocess.run([*command, "wanted.txt"], capture_output=True, text=True)
        assert (done.returncode == 0) is works, done.stderr
        assert works or "rows==1.0" in done.stderr
