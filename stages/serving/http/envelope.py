"""What holds for every request: headers, times, errors, and the end of the server."""

from __future__ import annotations

import sys
import time
import traceback
from collections.abc import Collection
from dataclasses import dataclass

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from stages.core.errors import printable
from stages.serving.http.meters import Meters

CONTENT_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; "
    "form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
)
HEADERS = {
    "Content-Security-Policy": CONTENT_POLICY,
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-store",
}
WHILE_STOPPING = ("/health", "/ready", "/metrics")  # are still answered
RETRY_AFTER = 5  # seconds, after which another server may have taken over
INTERNAL = {"error": "internal error", "fix": "see the log of the server"}


@dataclass
class State:
    """Whether the server is stopping, how many requests came, and how many wait for an answer."""

    stopping: bool = False
    requests: int = 0
    in_flight: int = 0


class Envelope:
    """Wraps the application.

    Args:
        app: the application.
        paths: its paths; others are counted together.
        meters: count the requests.
        state: shared with the server.
        hosts: names that requests may give the server; None allows any. A page from elsewhere
            whose name is made to mean this machine (DNS rebinding) so gets no answer.
    """

    def __init__(
        self,
        app: ASGIApp,
        paths: Collection[str],
        meters: Meters,
        state: State,
        hosts: frozenset[str] | None = None,
    ) -> None:
        self._app, self._paths, self._meters, self._state = app, frozenset(paths), meters, state
        self._hosts = hosts

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        start, status = time.perf_counter(), 0

        async def send_with_headers(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                headers = MutableHeaders(scope=message)
                headers.update(HEADERS)
                if self._state.stopping or status in (408, 413):  # the rest is not read
                    headers["Connection"] = "close"
            await send(message)

        path = scope["path"]
        self._state.requests += 1
        self._state.in_flight += 1
        try:
            await self._app_for(scope)(scope, receive, send_with_headers)
        except Exception:
            # Whoever asked sees no more than that it failed.
            traceback.print_exc(file=sys.stderr)
            if not status:
                await JSONResponse(INTERNAL, 500)(scope, receive, send_with_headers)
        finally:
            self._state.in_flight -= 1
            known = path if path in self._paths else "other"
            self._meters.request(known, status, time.perf_counter() - start)

    def _app_for(self, scope: Scope) -> ASGIApp:
        """Return what answers: the application, or a refusal."""
        if self._state.stopping and scope["path"] not in WHILE_STOPPING:
            content = {"error": "the server is stopping", "fix": "try again later"}
            return JSONResponse(content, 503, headers={"Retry-After": str(RETRY_AFTER)})
        host = host_of(Headers(scope=scope).get("host", ""))
        if self._hosts is not None and host not in self._hosts:
            what = f"Host {printable(host) or 'missing'}: not a name of this server"
            fix = "use its address, or start it with --allow-host and that name"
            return JSONResponse({"error": what, "fix": fix}, 403)
        return self._app


def host_of(header: str) -> str:
    """Return the name in a Host header, without a port and the brackets of an IPv6 address."""
    name = header[1:].partition("]")[0] if header.startswith("[") else header.partition(":")[0]
    return name.lower().removesuffix(".")
