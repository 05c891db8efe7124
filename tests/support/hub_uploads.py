"""The Hub's side of an upload, on this machine: repositories are made, and commits kept."""

from __future__ import annotations

import base64
import json
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from tests.support.hub_server import REVISION

TOKEN = "hf_good"  # noqa: S105  # of this server alone


class UploadHub(ThreadingHTTPServer):
    """Keeps {"owner/name": {file: content}} and which of them are private."""

    daemon_threads = True

    def __init__(self, private: dict[str, bool]) -> None:
        super().__init__(("127.0.0.1", 0), UploadHandler)
        self.private = private
        self.repos: dict[str, dict[str, bytes]] = {name: {} for name in private}
        self.stored: dict[str, bytes] = {}
        self.asked: list[str] = []

    @property
    def address(self) -> str:
        """The value of HF_ENDPOINT for this server."""
        return f"http://127.0.0.1:{self.server_port}"


class UploadHandler(BaseHTTPRequestHandler):
    """Answers what create_repo, repo_info and create_commit ask of a Hub without Xet."""

    server: UploadHub

    def log_message(self, *_: object) -> None:
        """Say nothing."""

    def do_GET(self) -> None:
        """Say what a repository is."""
        self._reply(b"")

    def do_POST(self) -> None:
        """Make a repository, or take a step of an upload."""
        self._reply(self.rfile.read(int(self.headers["Content-Length"])))

    def do_PUT(self) -> None:
        """Take a large file."""
        oid = self.path.removeprefix("/store/")
        self.server.stored[oid] = self.rfile.read(int(self.headers["Content-Length"]))
        self._send(200)

    def _reply(self, body: bytes) -> None:
        self.server.asked.append(f"{self.command} {self.path.partition('?')[0]}")
        if self.headers.get("Authorization") != f"Bearer {TOKEN}":
            self._send(401, json.dumps({"error": "Invalid credentials"}).encode())
        elif self.path == "/api/repos/create":
            self._create(json.loads(body))
        elif self.path == "/api/validate-yaml":
            self._json({"errors": [], "warnings": []})
        elif found := re.fullmatch(
            r"/api/models/([^/]+/[^/?]+)(?:/(preupload|commit)/main)?", self.path
        ):
            self._of_repo(found[1], found[2], body)
        elif self.path.endswith(".git/info/lfs/objects/batch"):
            wanted = json.loads(body)["objects"]
            href = f"{self.server.address}/store/"
            self._json(
                {
                    "objects": [
                        o | {"actions": {"upload": {"href": href + o["oid"]}}} for o in wanted
                    ]
                }
            )
        else:
            self._send(404)

    def _create(self, asked: dict[str, Any]) -> None:
        name = f"{asked['organization']}/{asked['name']}"
        if name in self.server.repos:
            known = {"error": "exists already", "url": f"{self.server.address}/{name}"}
            self._send(409, json.dumps(known).encode())
            return
        if asked["organization"] != "owner":
            self._send(403, b'{"error": "no right to create a model under this namespace"}')
            return
        self.server.private[name] = asked.get("visibility") == "private"
        self.server.repos[name] = {}
        self._json({"url": f"{self.server.address}/{name}"})

    def _of_repo(self, name: str, step: str | None, body: bytes) -> None:
        if name not in self.server.repos:
            self._send(404, b'{"error": "Repository not found"}', "RepoNotFound")
        elif step is None:
            about = {
                "id": name,
                "sha": REVISION,
                "siblings": [],
                "private": self.server.private[name],
            }
            self._json(about)
        elif step == "preupload":
            files = json.loads(body)["files"]
            large = (".safetensors", "tokenizer.json")
            self._json(
                {
                    "files": [
                        {
                            "path": file["path"],
                            "uploadMode": "lfs" if file["path"].endswith(large) else "regular",
                            "shouldIgnore": False,
                        }
                        for file in files
                    ]
                }
            )
        else:
            self._commit(name, [json.loads(line) for line in body.splitlines()])

    def _commit(self, name: str, lines: list[dict[str, Any]]) -> None:
        for line in lines:
            value = line["value"]
            if line["key"] == "file":
                self.server.repos[name][value["path"]] = base64.b64decode(value["content"])
            elif line["key"] == "lfsFile":
                self.server.repos[name][value["path"]] = self.server.stored[value["oid"]]
        self._json({"commitUrl": f"{self.server.address}/{name}/commit/1", "commitOid": REVISION})

    def _json(self, content: dict[str, Any]) -> None:
        self._send(200, json.dumps(content).encode())

    def _send(self, state: int, body: bytes = b"{}", error: str = "") -> None:
        self.send_response(state)
        if error:
            self.send_header("X-Error-Code", error)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


@contextmanager
def upload_hub(private: dict[str, bool] | None = None) -> Iterator[UploadHub]:
    """Run the server while the block runs; `private` names the repositories that exist."""
    server = UploadHub(dict(private or {}))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield server
    finally:
        server.shutdown()
        server.server_close()
