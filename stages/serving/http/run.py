"""The socket, and how the process starts and ends.

Told to stop by SIGTERM or Ctrl-C, the server refuses new requests with 503, answers those that it
has accepted, and ends with exit code 0.
"""

from __future__ import annotations

import contextlib
import errno
import signal
import socket
import sys
import time
from collections.abc import Iterator
from types import FrameType

import uvicorn

from stages.core.errors import HostError, printable
from stages.serving.http.api import make_app
from stages.serving.http.service import Service

BACKLOG = 512
KEEP_ALIVE = 30  # seconds that an idle connection stays open
# Ticks of uvicorn's loop, ten a second. In the first, clients learn by "Connection: close" that the
# server stops, and what has arrived on any connection is read; then no connection is accepted any
# more. The server ends after some in which nothing came and nothing waits. Ticks and not seconds: a
# process that gets no time reads nothing, and closing a connection loses what is unread.
NOTICE, QUIET = 5, 3
SIGNALS = (signal.SIGINT, signal.SIGTERM)


def listen(host: str, port: int) -> socket.socket:
    """Return a socket that listens; requests that arrive wait until the server runs.

    Args:
        host: name or address.
        port: 0 chooses a free one.

    Raises:
        HostError: if the address is in use, not of this machine, or not allowed.
    """
    place = f"bert-lora serve: {printable(host)}:{port}"
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
    except (OSError, UnicodeError) as error:
        what = f"{place}: no such host: {printable(error)}"
        raise HostError(what, "give a name or address of this machine with --host") from None
    listener = socket.socket(family, kind, protocol)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(address)
        listener.listen(BACKLOG)
    except OSError as error:
        listener.close()
        if error.errno == errno.EADDRINUSE:
            what, fix = "in use by another program", "stop that, or choose another with --port"
        elif error.errno in (errno.EACCES, errno.EPERM):
            what, fix = "not allowed", "choose a port from 1024 upwards with --port"
        elif error.errno == errno.EADDRNOTAVAIL:
            what, fix = "not an address of this machine", "give one of its own with --host"
        else:
            what = f"cannot be listened on: {printable(error)}"
            fix = "choose another with --host and --port"
        raise HostError(f"{place}: {what}", fix) from None
    return listener


def url_of(listener: socket.socket) -> str:
    """Return the address that a browser on this machine takes."""
    host, port = listener.getsockname()[:2]
    return f"http://{f'[{host}]' if ':' in host else host}:{port}"


def run(service: Service, listener: socket.socket) -> int:
    """Serve until told to stop, and return the exit code.

    It is 0 if every accepted request was answered, otherwise 1.
    """
    config = uvicorn.Config(
        make_app(service),
        loop="asyncio",
        http="h11",
        ws="none",
        lifespan="off",
        log_level="critical",  # the envelope reports what fails
        access_log=False,
        server_header=False,
        backlog=BACKLOG,
        timeout_keep_alive=KEEP_ALIVE,
        timeout_graceful_shutdown=5,
    )
    server = Server(config, service)
    server.run(sockets=[listener])
    service.batcher.close(timeout=0 if server.unanswered else None)
    if server.unanswered:
        print(f"warning: accepted requests not answered: {server.unanswered}", file=sys.stderr)
        return 1
    return 0


class Server(uvicorn.Server):
    """uvicorn's server with an end of its own: notice, last answers, exit code 0.

    Attributes:
        unanswered: accepted requests that were not answered in time.
    """

    def __init__(self, config: uvicorn.Config, service: Service) -> None:
        super().__init__(config)
        self.unanswered = 0
        self._state, self._patience = service.state, service.limits.drain_seconds
        self._told = 0.0
        self._ticks = self._quiet = self._seen = 0

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Stop at a signal; uvicorn would raise it again at the end and so change the exit code.

        The handlers stay: a signal that comes while the process ends changes nothing any more.
        """
        for number in SIGNALS:
            signal.signal(number, self.handle_exit)
        yield

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:  # noqa: ARG002  # uvicorn's
        """Begin to stop; at the second signal stop at once."""
        if self._state.stopping:
            self.should_exit = self.force_exit = True
        else:
            self._told = time.monotonic()
            self._state.stopping = True

    async def on_tick(self, counter: int) -> bool:
        """Return whether to stop: asked ten times a second."""
        if self._state.stopping:
            self._tick()
        ends = await super().on_tick(counter)
        if ends:
            self.unanswered = self._state.in_flight
        return ends

    def _tick(self) -> None:
        """Take the next step towards the end."""
        state = self._state
        still = not state.in_flight and state.requests == self._seen
        self._seen = state.requests
        self._ticks += 1
        self._quiet = self._quiet + 1 if still else 0
        if self._ticks == NOTICE:
            for server in self.servers:
                server.close()
        over = time.monotonic() - self._told > self._patience
        if over or (self._ticks > NOTICE and self._quiet >= QUIET):
            self.should_exit = True
