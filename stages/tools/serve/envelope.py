"""What holds for every request: names, sizes, deadlines, headers, counts, and how errors read."""

import asyncio
import ipaddress
import sys
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass

from starlette.datastructures import Headers, MutableHeaders
from starlette.exceptions import HTTPException
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from stages.core.errors import printable

JSON = "application/json"
PROBES = ("/health", "/ready", "/metrics")
BODY_SECONDS = 10.0  # in which a client has to send its request
RETRY_AFTER = "5"  # seconds, after which there may be room, or another server has taken over
HEADERS = {
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; "
    "img-src 'self'; connect-src 'self'; form-action 'self'; base-uri 'none'; "
    "frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-store",
}


class RefusedError(HTTPException):
    """A request that gets no answer: its status, what is wrong, and what to do about it."""

    def __init__(self, status: int, what: str, fix: str) -> None:
        super().__init__(status, what, {"Retry-After": RETRY_AFTER} if status == 503 else None)
        self.fix = fix


def refusal(error: HTTPException) -> JSONResponse:
    """Return the answer that says so."""
    fix = getattr(error, "fix", "see openapi.json for the paths and what they take")
    return JSONResponse({"error": error.detail, "fix": fix}, error.status_code, error.headers)


class Hosts:
    """The names that requests may give the server.

    A page whose own name is made to mean this machine (DNS rebinding) gives that name.

    Args:
        host: that the server was told to listen on.
        address: that this means.
        allowed: further names. With some, probes may give any, since they know an address alone.
    """

    def __init__(self, host: str, address: str, allowed: list[str]) -> None:
        self._all = not allowed and not is_loopback(address)
        self._names = {name.lower() for name in ("localhost", host, address, *allowed)}
        self._open = PROBES if allowed else ()

    def allow(self, header: str, path: str) -> bool:
        """Return whether a request with this Host header may have this path."""
        name = header[1:].partition("]")[0] if header.startswith("[") else header.partition(":")[0]
        name = name.lower().removesuffix(".")
        return self._all or path in self._open or name in self._names or is_loopback(name)


def is_loopback(address: str) -> bool:
    """Return whether only this machine reaches the address; a name is none."""
    try:
        found = ipaddress.ip_address(address)
    except ValueError:
        return False
    mapped = found.ipv4_mapped if isinstance(found, ipaddress.IPv6Address) else None
    return (mapped or found).is_loopback


@dataclass
class Envelope:
    """Wraps the application.

    Attributes:
        app: the application.
        hosts: names that requests may give.
        body_bytes: of a request at most.
        seen: called with path, status and seconds of each request.
        close: refuses what waits when the server stops.
        stopping: whether it is stopping.
    """

    app: ASGIApp
    hosts: Hosts
    body_bytes: int
    seen: Callable[[str, int, float], None]
    close: Callable[[], None]
    stopping: bool = False

    def stop(self) -> None:
        """Refuse what waits and what comes from now on."""
        self.stopping = True
        self.close()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        start, status = time.perf_counter(), 0

        async def send_with_headers(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                headers = MutableHeaders(scope=message)
                headers.update(HEADERS)
                if self.stopping or status == 408:  # the rest of the request is not read
                    headers["Connection"] = "close"
            await send(message)

        path = scope["path"]
        if scope["method"] == "HEAD":  # uvicorn leaves out the content
            scope = {**scope, "method": "GET"}
        try:
            if refused := self._refused(scope):
                await refusal(refused)(scope, receive, send_with_headers)
            else:
                await self.app(scope, self._limited(receive), send_with_headers)
        except Exception:  # the application has answered 500, and raises the error again
            traceback.print_exc(file=sys.stderr)
        finally:
            self.seen(path, status, time.perf_counter() - start)

    def _refused(self, scope: Scope) -> RefusedError | None:
        """Return why the application is not even asked, or None."""
        headers, path = Headers(scope=scope), scope["path"]
        if self.stopping and path not in PROBES:
            return RefusedError(503, "the server is stopping", "try again later")
        host = headers.get("host", "")
        if not self.hosts.allow(host, path):
            what = f"Host {printable(host) or 'missing'}: not a name of this server"
            fix = "use its address, or start it with --allow-host and that name"
            return RefusedError(403, what, fix)
        kind = headers.get("content-type", "")
        if scope["method"] == "POST" and kind.partition(";")[0].strip().lower() != JSON:
            what = f"Content-Type {printable(kind) or 'missing'}: not {JSON}"
            return RefusedError(415, what, f"send JSON with the header Content-Type: {JSON}")
        return None

    def _limited(self, receive: Receive) -> Receive:
        """Return what reads a request, and refuses one that is too large or too slow."""
        size, whole = 0, False
        end = asyncio.get_running_loop().time() + BODY_SECONDS

        async def limited() -> Message:
            nonlocal size, whole
            try:
                async with asyncio.timeout_at(None if whole else end):
                    message = await receive()
            except TimeoutError:
                what = f"body: not complete after {BODY_SECONDS:g} seconds"
                raise RefusedError(408, what, "send it faster, or send less") from None
            size += len(message.get("body", b""))
            if size > self.body_bytes:
                what = f"body: more than {self.body_bytes:,} bytes"
                raise RefusedError(413, what, "send the texts in several requests")
            whole = not message.get("more_body", False)
            return message

        return limited
