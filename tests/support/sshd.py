"""A real SSH server on the loopback, OpenSSH's, started from the programs that this machine has."""

from __future__ import annotations

import getpass
import os
import shutil
import socket
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from tests.support.faults import assert_soon
from tests.support.processes import end_all, free_port

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
    """

    port: int
    keyfile: Path
    folder: Path

    @property
    def url(self) -> str:
        """The folder as DVC names it."""
        return f"ssh://{getpass.getuser()}@127.0.0.1:{self.port}{self.folder}"


def program() -> Path | None:
    """Return the server's program, None if OpenSSH's server is not installed."""
    found = shutil.which("sshd") or shutil.which("/usr/sbin/sshd")
    return Path(found) if found and shutil.which("ssh-keygen") else None


def answers(port: int) -> bool:
    """Return whether somebody listens there."""
    with suppress(OSError):
        socket.create_connection(("127.0.0.1", port), timeout=5).close()
        return True
    return False


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
    port = free_port()
    (folder / "config").write_text(CONFIG.format(port=port, folder=folder), encoding="utf-8")
    (folder / "store").mkdir()
    process = subprocess.Popen(
        [sshd, "-D", "-e", "-f", folder / "config"],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    running = Server(port, folder / "user", folder / "store")
    try:
        assert_soon(lambda: answers(port), 30)
        yield running
    finally:
        end_all(process.pid)
        process.wait(30)
        shutil.rmtree(folder, ignore_errors=True)
