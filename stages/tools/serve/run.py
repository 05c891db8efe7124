"""The server's life: what it serves and where, its connections, and how it ends.

Told to stop by SIGTERM or Ctrl-C, it refuses with 503 what waits and what comes, answers what is
being computed, and ends with exit code 0.
"""

import asyncio
import resource
import socket
import sys
from pathlib import Path
from types import FrameType
from typing import Any

import h11
import uvicorn
from uvicorn.protocols.http.h11_impl import H11Protocol

from stages.core import paths
from stages.core.errors import HostError, printable
from stages.core.params import ComputeParams
from stages.tools.predictor import open_predictor
from stages.tools.serve.app import Envelope, Hosts, Limits, Service, is_loopback, make_app

PAUSE = 1.0  # seconds that a new connection keeps its place whoever else comes
HEADER_SECONDS = 10.0  # in which a new connection has to send the headers of its first request
KEEP_ALIVE = 30  # seconds between an answer and the headers of the next request
NOTICE = 0.5  # seconds, in which clients learn by "Connection: close" that the server stops
GRACE = 15  # seconds for what is being computed or sent; a slow body gets fewer
CONNECTIONS, BACKLOG = 1024, 256  # at most; fewer where the process may open few files


def run(
    folder: Path | None,
    compute: ComputeParams,
    host: str,
    port: int,
    allow_host: list[str],
    base: bool,
) -> int:
    """Serve until told to stop, and return the exit code.

    Args:
        folder: of `bert-lora export`; None is models/ in the working folder.
        compute: device, precision and threads.
        host: name or address to listen on.
        port: 0 chooses a free one.
        allow_host: further names that requests may give the server.
        base: whether to serve the base too, where the adapter of models/ is served.
    """
    listener = listen(host, port)
    address, port = listener.getsockname()[:2]
    if not is_loopback(address):
        reach = "whoever reaches this address can ask, without password or encryption"
        print(f"warning: {printable(host)}: {reach}: put a proxy in front of it", file=sys.stderr)
    models = {"model": open_predictor(folder, compute)}
    if base and folder is None and paths.HEAD.is_dir():
        models["base"] = open_predictor(None, compute, base=True)
    for model in models.values():
        model.logits(["warm up"])
    app = make_app(Service(models, Limits()), Hosts(host, address, allow_host))
    where = f"http://{f'[{address}]' if ':' in address else address}:{port} (page: /)"
    print(f"serving {printable(folder or paths.ADAPTER, 200)} at {where}", file=sys.stderr)
    Server(app).run([listener])
    return 0


def listen(host: str, port: int) -> socket.socket:
    """Return a socket that listens; requests that arrive wait until the server runs."""
    try:
        family, _, _, _, address = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        return socket.create_server(address, family=family)
    except (OSError, UnicodeError) as error:
        why = (isinstance(error, OSError) and error.strerror) or error
        what = f"bert-lora serve: {printable(host)}:{port}: {printable(why, 200)}"
        fix = "choose a free address of this machine with --host and --port"
        raise HostError(what, fix) from None


class Protocol(H11Protocol):
    """A connection that may not hold its place for ever without a request.

    Attributes:
        since: when it last began to wait for its client, in seconds of the loop.
    """

    since = 0.0

    def connection_made(self, transport: Any) -> None:
        """Take a place; where none is left, those of the connections that have waited longest.

        Where all have requests, uvicorn answers the next one with 503 and closes the connection.
        """
        super().connection_made(transport)
        now = self.since = self.loop.time()
        places = self.config.limit_concurrency or 0
        every = [one for one in self.connections if isinstance(one, Protocol)]
        taken = sum(not one.transport.is_closing() for one in every)
        waiting = sorted((one for one in every if one.waits), key=lambda one: one.since)
        for one in waiting[: max(0, taken - places + 1)]:
            if now - one.since > PAUSE or taken > places + self.config.backlog:
                one.transport.abort()

    def handle_events(self) -> None:
        """Take what has come; end a connection that breaks the protocol while it is answered."""
        try:
            super().handle_events()
        except h11.LocalProtocolError:  # uvicorn cannot say 400 any more, and would raise
            self.transport.abort()

    def on_response_complete(self) -> None:
        """Begin to wait for the next request."""
        self.since = self.loop.time()
        super().on_response_complete()

    def pause_writing(self) -> None:
        """Begin to wait for the client to read."""
        self.since = self.loop.time()
        super().pause_writing()

    @property
    def waits(self) -> bool:
        """Whether it waits for its client to send headers or to read an answer."""
        answered = self.cycle is None or self.cycle.response_complete
        return (answered or self.flow.write_paused) and not self.transport.is_closing()

    def end_if_late(self) -> None:
        """End it if its client has been waited for long enough, or does not let it close."""
        patience = HEADER_SECONDS if self.cycle is None else KEEP_ALIVE
        late = self.loop.time() - self.since > patience
        if late and (self.waits or self.transport.is_closing()):
            self.transport.abort()


class Server(uvicorn.Server):
    """uvicorn's server with deadlines for connections, and an end that refuses what waits."""

    def __init__(self, app: Envelope) -> None:
        files, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
        config = uvicorn.Config(
            app,
            loop="asyncio",
            http=Protocol,
            ws="none",
            log_level="critical",  # the envelope reports what fails
            access_log=False,
            server_header=False,
            proxy_headers=False,
            backlog=max(4, min(BACKLOG, files // 16)),  # so many are accepted at once
            limit_concurrency=max(8, min(CONNECTIONS, files // 3)),
            timeout_keep_alive=KEEP_ALIVE,
            timeout_graceful_shutdown=GRACE,
        )
        super().__init__(config)
        self._envelope = app

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:  # noqa: ARG002  # uvicorn's
        """Begin to stop; at the second signal stop at once.

        uvicorn would raise the signal again at the end, and so change the exit code.
        """
        self.force_exit = self.should_exit
        self.should_exit = True

    async def on_tick(self, counter: int) -> bool:
        """Return whether to stop: asked ten times a second."""
        for connection in list(self.server_state.connections):
            if isinstance(connection, Protocol):
                connection.end_if_late()
        return await super().on_tick(counter)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Refuse what waits, give clients notice, and end."""
        self._envelope.service.batcher.close()
        await asyncio.sleep(NOTICE)
        await super().shutdown(sockets)
