"""The Hugging Face Hub as a server on this machine: repositories, revisions, and its errors."""

from __future__ import annotations

import hashlib
import http.server
import json
import os
import re
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tests.support.model_files import sha256
from tests.support.tiny import ROOT

REVISION = "0123456789abcdef0123456789abcdef01234567"
SOURCE = f"owner/name@{REVISION}"


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
            name = found[1].partition("/")[2]
            about: dict[str, Any] = {"id": name, "sha": REVISION, "siblings": []}
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
    """Run the server while the block runs.

    `behaviour`: good, 500 (every answer is an error), hang (no answer), or hang later (the first
    file's header is answered, nothing else).
    """
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
from stages.core.errors import exit_code_of
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
