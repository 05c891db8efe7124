"""Open a file of rows: unpacked, and decoded by its byte-order mark."""

from __future__ import annotations

import gzip
import io
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, BinaryIO, cast

import pyarrow as pa

from stages.core.errors import DataError, printable
from stages.sources.data_files import compression_of

MARKS = (  # the longer first: UTF-32's begins as that of UTF-16
    (b"\xff\xfe\x00\x00", "utf-32"),
    (b"\x00\x00\xfe\xff", "utf-32"),
    (b"\xff\xfe", "utf-16"),
    (b"\xfe\xff", "utf-16"),
    (b"\xef\xbb\xbf", "utf-8-sig"),
)
NAMES = {"utf-8": "UTF-8", "utf-8-sig": "UTF-8", "utf-16": "UTF-16", "utf-32": "UTF-32"} | {
    "utf-16-le": "UTF-16",
    "utf-16-be": "UTF-16",
}


def open_bytes(path: Path) -> BinaryIO:
    """Return the unpacked bytes of a file; see `faults_of` for the errors of reading them."""
    kind = compression_of(path)
    if kind == "gzip":
        return cast(BinaryIO, gzip.open(path, "rb"))
    if kind == "zstd":
        # Read from our own handle, since pyarrow reports a missing file in words of its own.
        unpacked = pa.CompressedInputStream(path.open("rb"), "zstd")
        return io.BufferedReader(cast(io.RawIOBase, unpacked))
    return path.open("rb")


def open_text(path: Path, newline: str) -> tuple[IO[str], str]:
    """Return the decoded file and its encoding: by its byte-order mark or its NULs, or UTF-8.

    Args:
        path: the file.
        newline: as `io.TextIOWrapper` takes it: what ends a line.

    Raises:
        DataError: if it cannot be unpacked.
    """
    with faults_of(path, "utf-8"), open_bytes(path) as file:
        head = file.read(4)
    encoding = next((name for mark, name in MARKS if head.startswith(mark)), "")
    if not encoding:  # pandas packs UTF-16 without a mark; the first two are letters of the header
        unmarked = {"0101": "utf-16-le", "1010": "utf-16-be"}
        encoding = unmarked.get("".join("10"[bool(byte)] for byte in head), "utf-8")
    return io.TextIOWrapper(open_bytes(path), encoding=encoding, newline=newline), encoding


@contextmanager
def faults_of(path: Path, encoding: str) -> Iterator[None]:
    """Turn what reading a file may raise into an error that names the file and the line.

    Raises:
        DataError: if the bytes are not of the encoding, or not those of the compression.
    """
    try:
        yield
    except UnicodeDecodeError:
        raise _not_decoded(path, encoding) from None
    except (EOFError, zlib.error, OSError) as error:
        if isinstance(error, OSError) and error.errno is not None:  # the disk's own
            raise
        raise DataError(
            f"{printable(path)}: not a complete {compression_of(path)} file: {printable(error)}",
            "write it again",
        ) from None


def _not_decoded(path: Path, encoding: str) -> DataError:
    """Return the error that names the first byte that is not of the encoding."""
    line, offset = 1, 0
    with open_bytes(path) as file:
        if encoding.startswith("utf-8"):
            for line, content in enumerate(file, start=1):  # noqa: B007  # read after the loop
                try:
                    content.decode("utf-8")
                except UnicodeDecodeError as error:
                    offset += error.start
                    break
                offset += len(content)
        else:
            content = file.read()
            try:
                content.decode(encoding)
            except UnicodeDecodeError as error:
                offset = error.start
                line = content[:offset].decode(encoding, "ignore").count("\n") + 1
    return DataError(
        f"{printable(path)}: line {line}: byte {offset} is not {NAMES[encoding]}",
        "save the file as UTF-8",
    )
