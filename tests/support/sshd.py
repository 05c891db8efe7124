"""A real SSH server on the loopback, OpenSSH's, started from the programs that this machine has."""

from __future__ import annotations

import getpass
import os
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import psutil

SEPARATION = Path("/run/sshd")  # an empty folder that a server of root wants
CONFIG = """
ListenAddress 127.0.0.1:{port}
HostKey {folder}/host
AuthorizedKeysFile {folder}/user.pub
PasswordAuthentication no
KbdInteractiveAuthentication no
PermitRootLogin prohibit-password
StrictModes no
UsePAM no
PidFile none
Subsystem sftp internal-sftp
"""


@dataclass(frozen=True)
class Server:
    """A server that runs.

    Attributes:
        port: of 127.0.0.1.
        keyfile: the private key that it lets in.
        folder: a folder of the server's.
        process: the server's own process.
    """

    port: int
    keyfile: Path
    folder: Path
    process: subprocess.Popen[bytes]

    @property
    def url(self) -> str:
        """The folder as DVC names it."""
        return f"ssh://{getpass.getuser()}@127.0.0.1:{self.port}{self.folder}"

    def drop_connections(self) -> int:
        """Cut every connection, as a network does that fails; return how many there were."""
        children = psutil.Process(self.process.pid).children(recursive=True)
        for child in children:
            child.kill()
        return len(children)


def program() -> Path | None:
    """Return the server's program, None if OpenSSH's server is not installed."""
    found = shutil.which("sshd") or shutil.which("/usr/sbin/sshd")
    return Path(found) if found and shutil.which("ssh-keygen") else None


@contextmanager
def server() -> Iterator[Server]:
    """Run a server while the block runs; it lets in this user with a key of its own."""
    sshd = program()
    assert sshd is not None
    folder = Path(tempfile.mkdtemp(prefix="sshd-"))
    if os.geteuid() == 0:
        SEPARATION.mkdir(exist_ok=True)
    for name in ("host", "user"):
        command = ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(folder / name)]
        subprocess.run(command, check=True)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    (folder / "config").write_text(CONFIG.format(port=port, folder=folder), encoding="utf-8")
    (folder / "store").mkdir()
    process = subprocess.Popen(
        [sshd, "-D", "-e", "-f", folder / "config"],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    running = Server(port, folder / "user", folder / "store", process)
    try:
        _wait_for(port)
        yield running
    finally:
        running.drop_connections()
        process.terminate()
        process.wait(30)
        shutil.rmtree(folder, ignore_errors=True)


def _wait_for(port: int) -> None:
    deadline = time.monotonic() + 30
    while True:
        try:
            socket.create_connection(("127.0.0.1", port), timeout=5).close()
            return
        except OSError:
            assert time.monotonic() < deadline
            time.sleep(0.1)
