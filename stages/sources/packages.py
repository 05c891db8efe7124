"""Take files out of packages of the Python package index, each checked by hash; install none."""

import hashlib
import re
import shutil
import stat
import subprocess
import sys
import tarfile
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from stages.core.errors import HostError, UserError, printable
from stages.sources.catalogue import Entry, File, Mirror, Package

_CHUNK = 1 << 20


def fetch_packaged(entry: Entry, folder: Path, fault: type[UserError]) -> Path:
    """Return a folder inside `folder` that holds the files of a packaged entry.

    The mirrors are tried in order. One that cannot be reached leads to the next, a wrong hash to
    an error.

    Raises:
        HostError: if pip can download none of the mirrors.
        UserError: of type `fault`, if a hash is wrong or an archive is not what was expected.
    """
    for number, mirror in enumerate(entry.mirrors, start=1):
        try:
            archive = _archive(mirror, folder / f"mirror-{number}", fault)
            break
        except HostError as error:
            if number == len(entry.mirrors):
                raise
            print(f"{error.faults[0][0]}; trying the next mirror", flush=True)
    files = folder / "files"
    files.mkdir()
    for name, expected in entry.files.items():
        with open_member(archive, f"{mirror.folder}/{name}", fault) as stream:
            _take(stream, files / name, expected, fault)
    return files


def _archive(mirror: Mirror, folder: Path, fault: type[UserError]) -> Path:
    """Return the archive that holds the files: a package, or the joined parts of several."""
    folder.mkdir()
    joined = folder / "joined"
    for package in mirror.packages:
        downloaded = download(package, folder / "download", fault)
        if package.part is None:
            return downloaded
        with open_member(downloaded, package.part, fault) as part, joined.open("ab") as target:
            shutil.copyfileobj(part, target)
        downloaded.unlink()  # otherwise a large part would be on the disk twice
    return joined


def download(package: Package, folder: Path, fault: type[UserError]) -> Path:
    """Return one package file, downloaded by pip from the index the user has configured.

    pip compares the hash before it does anything else with the file. That matters for a source
    archive, whose setup script pip then runs to read the metadata: only the pinned one is run.
    (The setuptools that run it are not pinned: pip takes them from the same index.)

    Raises:
        HostError: if pip cannot download it.
        UserError: of type `fault`, if the file's hash is not the pinned one.
    """
    print(f"fetching {package.requirement} ...", flush=True)
    folder.mkdir(exist_ok=True)
    files = folder / "files"
    command = _pip_download(package, folder, files)
    done = subprocess.run(
        command, stdin=subprocess.DEVNULL, capture_output=True, text=True, errors="replace"
    )
    if wrong := re.search(r"Expected sha256 [0-9a-f]{64}\s+Got\s+([0-9a-f]{64})", done.stderr):
        raise _wrong_hash(package.requirement, package.sha256, wrong[1], fault)
    if done.returncode != 0:
        why = printable(last_error(done.stderr), limit=200)
        raise HostError(
            f"{package.requirement}: pip could not download it: {why}",
            "check the network and the index that pip uses (pip config list), then run again",
        )
    return next(files.iterdir())


def _pip_download(package: Package, folder: Path, files: Path) -> list[str]:
    requirements = folder / "requirements.txt"
    requirements.write_text(
        f"{package.requirement} --hash=sha256:{package.sha256}\n", encoding="utf-8"
    )
    # -P: no module of the working folder replaces one of pip's.
    command = [sys.executable, "-P", "-m", "pip", "download", "--quiet", "--no-input"]
    command += ["--disable-pip-version-check", "--no-deps", "--require-hashes"]
    command += ["--no-binary" if package.sdist else "--only-binary", ":all:"]  # guard: wheels only
    return [*command, "-r", str(requirements), "-d", str(files)]


def last_error(output: str) -> str:
    """Return the last error line of pip, without the credentials an address may hold."""
    lines = [line for line in output.splitlines() if line.strip()]
    errors = [line.removeprefix("ERROR: ") for line in lines if line.startswith("ERROR:")]
    last = (errors or lines or ["it gave no reason"])[-1]
    return re.sub(r"://[^/@\s]+@", "://***@", last)


def _wrong_hash(what: str, expected: str, got: str, fault: type[UserError]) -> UserError:
    return fault(
        f"{what}: expected sha256 {expected}, got {got}",
        "do not use the file; check the index it came from and the entry in catalogue.yaml",
    )


@contextmanager
def open_member(archive: Path, name: str, fault: type[UserError]) -> Iterator[IO[bytes]]:
    """Open one regular file of a zip or tar archive; nothing is unpacked under its own name.

    Raises:
        UserError: of type `fault`, if it is no archive, or holds no such regular file.
    """
    try:
        if zipfile.is_zipfile(archive):
            with zipfile.ZipFile(archive) as zipped:
                info = zipped.getinfo(name)
                if info.is_dir() or stat.S_ISLNK(info.external_attr >> 16):
                    raise KeyError(name)
                with zipped.open(info) as stream:
                    yield stream
        else:
            with tarfile.open(archive) as tarred:
                member = tarred.getmember(name)
                # guard: regular member -> if (content := tarred.extractfile(member)) is None:
                if not member.isreg() or (content := tarred.extractfile(member)) is None:
                    raise KeyError(name)
                yield content
    except (KeyError, zipfile.BadZipFile, tarfile.TarError, zlib.error, EOFError) as error:
        kind = "no archive that can be read with"  # without it, or whole
        what = f"{archive.name}: {kind} a regular file {printable(name, 200)}: {printable(error)}"
        raise fault(what, "correct the entry in catalogue.yaml") from None


def _take(stream: IO[bytes], target: Path, expected: File, fault: type[UserError]) -> None:
    """Copy a stream to a file, at most as many bytes as expected, and check its hash."""
    digest, size = hashlib.sha256(), 0
    with target.open("wb") as file:
        while chunk := stream.read(_CHUNK):
            size += len(chunk)
            if size > expected.size:  # guard: size of a member
                raise fault(
                    f"{target.name}: expected {expected.size} bytes, got more",
                    "do not use the file; check the entry in catalogue.yaml",
                )
            digest.update(chunk)
            file.write(chunk)
    if digest.hexdigest() != expected.sha256:  # guard: hash of a member
        raise _wrong_hash(target.name, expected.sha256, digest.hexdigest(), fault)
