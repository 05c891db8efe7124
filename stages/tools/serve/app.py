"""The paths of the server: what each takes, checks and answers.

Texts that wait are computed together, by one thread. Nothing waits for a batch to fill.
"""

import asyncio
import heapq
import ipaddress
import re
import sys
import time
import traceback
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from dataclasses import asdict, dataclass, field
from functools import partial
from itertools import count
from pathlib import Path
from typing import Any, Self

import numpy as np
import prometheus_client as prometheus
from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import FileResponse
from pydantic import BaseModel, ConfigDict, Field, model_validator
from pydantic_core import PydanticCustomError
from scipy.special import logsumexp
from starlette.datastructures import Headers, MutableHeaders
from starlette.exceptions import HTTPException
from starlette.responses import JSONResponse
from starlette.routing import Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from stages.core.errors import UserError, printable
from stages.tools.predictor import Logits, Predictor, fault_of

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
DIGITS = 9  # of a probability, as `bert-lora predict` prints it
EXPLAIN_SECONDS = 30.0  # in which an explanation has to have its turn and be done
NO_TELEMETRY: Any = {"tracing": False, "metrics": False, "logs": False, "auto_configure": False}
STATIC = Path(__file__).parent / "static"
INFO = ("description", "labels", "max_length", "temperature", "sha256")
Json = dict[str, Any]
# Of a batch, about 2,048 tokens: enough to keep a processor busy, and so few that a text which
# comes next, or the end of the server, waits for a fraction of a second.
CHARACTERS = 8192
METHOD = "leaving out one word at a time"
MOST_WORDS = 300
# A word, or one character of a script that is written without spaces.
UNSPACED = "\u0e00-\u0e7f\u3040-\u30ff\u3400-\u9fff\U00020000-\U0003ffff"
WORD = re.compile(rf"[{UNSPACED}]|[^\s{UNSPACED}]+")


def compare(logits: Logits) -> tuple[int, list[float]]:
    """Return the number of the likeliest class, and what each word adds to its log-odds.

    Args:
        logits: of the text, then of the text without each word, shape (1 + words, classes).
    """
    target = int(logits[0].argmax())
    others = np.delete(logits.astype(np.float64), target, axis=1)
    odds = logits[:, target] - logsumexp(others, axis=1)
    return target, (odds[0] - odds[1:]).tolist()


class RefusedError(HTTPException):
    """A request that gets no answer: its status, what is wrong, and what to do about it."""

    def __init__(self, status: int, what: str, fix: str) -> None:
        super().__init__(status, what, {"Retry-After": RETRY_AFTER} if status == 503 else None)
        self.fix = fix


def stopping() -> RefusedError:
    """Return what is said once the server has been told to stop."""
    return RefusedError(503, "the server is stopping", "try again later")


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
        self._names = {name_of(name) for name in ("localhost", host, address, *allowed)}
        self._open = PROBES if allowed else ()

    def allow(self, header: str, path: str) -> bool:
        """Return whether a request with this Host header may have this path."""
        name = name_of(header)
        return self._all or path in self._open or name in self._names or is_loopback(name)


def name_of(host: str) -> str:
    """Return the name or address of a Host header or an option, without a port, in one spelling."""
    bare = host[1:].partition("]")[0] if host.startswith("[") else host
    try:
        return str(ipaddress.ip_address(bare))
    except ValueError:
        return bare.partition(":")[0].lower().removesuffix(".")


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
    """Wraps the application: what holds for every request."""

    app: ASGIApp
    service: "Service"  # what it answers with
    hosts: Hosts  # names that requests may give
    paths: set[str]  # that it has

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
                if (
                    self.service.batcher.closed or status == 408
                ):  # the rest of the request is not read
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
            known = path if path in self.paths else "other"
            self.service.requests.labels(known, str(status)).inc()
            self.service.seconds.labels(known).observe(time.perf_counter() - start)

    def _refused(self, scope: Scope) -> RefusedError | None:
        """Return why the application is not even asked, or None."""
        headers, path = Headers(scope=scope), scope["path"]
        if self.service.batcher.closed and path not in PROBES:
            return stopping()
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
            if size > (most := self.service.limits.body_bytes):
                what = f"body: more than {most:,} bytes"
                raise RefusedError(413, what, "send the texts in several requests")
            whole = not message.get("more_body", False)
            return message

        return limited


@dataclass(frozen=True)
class Limits:
    """How much a client may ask for, and how much waits."""

    body_bytes: int = 1 << 20  # of a request
    texts: int = 256  # of a request
    characters: int = 10_000  # of a text
    waiting: int = 1024  # texts, of answers and of explanations; where none waits, any number
    batch: int = 64  # texts that are computed together


class Body(BaseModel):
    """What a client sends: strict types, no unknown key."""

    model_config = ConfigDict(strict=True, extra="forbid", frozen=True)


class PredictRequest(Body):
    """One text, or many."""

    text: str | None = Field(None, description="One text; give this or texts.")
    # The first fault ends the check: a megabyte of numbers would have a report of many megabytes.
    texts: list[str] = Field([], fail_fast=True, description="Many texts.")
    all: bool = Field(False, description="Add the probability of every class.")
    with_base: bool = Field(False, description="Add what the base model answers.")
    raw: bool = Field(False, description="Give the probabilities before their calibration.")

    @model_validator(mode="after")
    def _one_of_two(self) -> Self:
        if (self.text is None) == ("texts" not in self.model_fields_set):
            raise PydanticCustomError("one_of_two", "give either text or texts")
        return self


class ExplainRequest(Body):
    """The text whose answer is to be explained."""

    text: str = Field(description="The text.")


Scored = tuple[Logits, bool]  # of a text: (classes,), and whether it is longer than what is read


@dataclass(order=True)
class Waiting:
    """A text that waits; what explains comes last, else the first come is the first served."""

    explain: bool
    number: int
    model: str = field(compare=False)  # that is to answer
    text: str = field(compare=False)
    answer: "asyncio.Future[Scored]" = field(compare=False)


@dataclass
class Batcher:
    """Computes batches of one model in a thread; all else happens in the event loop.

    Explanations have batches of their own, and only while no other text waits.
    """

    # From a model's name and texts to an answer to each, in order.
    compute: Callable[[str, list[str]], Sequence[Scored]]
    limits: Limits
    closed: bool = False
    _queue: list[Waiting] = field(default_factory=list)  # a heap
    _some: asyncio.Event = field(default_factory=asyncio.Event)
    _numbers: Iterator[int] = field(default_factory=count)

    def waiting(self, explain: bool = False) -> int:
        """Return how many texts wait for somebody who has not left."""
        return sum(one.explain == explain and not one.answer.done() for one in self._queue)

    def submit(
        self, model: str, texts: Sequence[str], explain: bool = False
    ) -> "asyncio.Future[list[Scored]]":
        """Return the future answers to the texts; if it is cancelled, no more are computed.

        Raises:
            RefusedError: if too much waits, or the server is stopping.
        """
        if self.closed:
            raise stopping()
        waiting = self.waiting(explain)
        if waiting and waiting + len(texts) > self.limits.waiting:
            raise RefusedError(503, "too many requests wait", "try again later")
        answers = [asyncio.get_running_loop().create_future() for _ in texts]
        for text, answer in zip(texts, answers, strict=True):
            one = Waiting(explain, next(self._numbers), model, text, answer)
            heapq.heappush(self._queue, one)
        self._some.set()
        job = asyncio.gather(*answers)
        # asyncio logs an error that nobody asks for, as when the client has left.
        job.add_done_callback(lambda job: job.cancelled() or job.exception())
        return job

    def close(self) -> None:
        """Refuse what waits and what comes from now on; the running batch is still answered."""
        self.closed = True
        for one in self._queue:
            if not one.answer.done():
                one.answer.set_exception(stopping())

    async def run(self) -> None:
        """Compute batches until cancelled."""
        thread, loop = ThreadPoolExecutor(1, "batches"), asyncio.get_running_loop()
        while await self._some.wait():
            batch = self._take()
            if not batch:
                self._some.clear()
                continue
            texts = [one.text for one in batch]
            results = await loop.run_in_executor(thread, self._results, batch[0].model, texts)
            for one, result in zip(batch, results, strict=True):
                if one.answer.done():  # whoever asked has left
                    continue
                if isinstance(result, Exception):
                    one.answer.set_exception(result)
                else:
                    one.answer.set_result(result)

    def _take(self) -> list[Waiting]:
        """Return the next batch."""
        batch: list[Waiting] = []
        room = CHARACTERS
        while self._queue and len(batch) < self.limits.batch and room > 0:
            first, following = (batch or self._queue)[0], self._queue[0]
            if (first.explain, first.model) != (following.explain, following.model):
                break
            one = heapq.heappop(self._queue)
            if not one.answer.done():
                batch.append(one)
                room -= len(one.text)
        return batch

    def _results(self, model: str, texts: list[str]) -> Sequence[Scored | Exception]:
        """Return the answers; where a batch fails, each text alone, and its error in its place."""
        try:
            return self.compute(model, texts)
        except Exception as error:
            if len(texts) == 1:
                return [error]
        return [result for text in texts for result in self._results(model, [text])]


class Service:
    """What answers: the models, loaded once, the queue before them, and what is counted.

    Args:
        models: `model`, and `base` where it is served.
        limits: how much a client may ask for.
    """

    def __init__(self, models: dict[str, Predictor], limits: Limits) -> None:
        self.models, self.limits = models, limits
        self.meters = prometheus.CollectorRegistry()
        prometheus.ProcessCollector(registry=self.meters)
        counter = partial(prometheus.Counter, registry=self.meters)
        self.requests = counter("bert_lora_requests", "Answered.", ("path", "status"))
        self.seconds = prometheus.Histogram(
            "bert_lora_request_seconds", "To answer.", ("path",), registry=self.meters
        )
        self.texts = counter("bert_lora_texts", "Texts that were computed.")
        self.batcher = Batcher(self._score, limits)
        for name, explain in (("texts", False), ("explanations", True)):
            about = f"Of {name}, how many wait."
            gauge = prometheus.Gauge(f"bert_lora_waiting_{name}", about, registry=self.meters)
            gauge.set_function(partial(self.batcher.waiting, explain))

    @asynccontextmanager
    async def computing(self, _: FastAPI) -> AsyncIterator[None]:
        """Compute what is submitted while the server runs."""
        task = asyncio.create_task(self.batcher.run())
        yield
        task.cancel()

    def _score(self, name: str, texts: list[str]) -> list[Scored]:
        scored = score(self.models[name], texts)
        self.texts.inc(len(texts))
        return scored

    async def health(self) -> Json:
        """Say that the process is alive."""
        return {"status": "alive"}

    async def ready(self) -> Json:
        """Say whether requests are accepted."""
        if self.batcher.closed:
            raise stopping()
        return {"status": "ready"}

    async def metrics(self) -> Response:
        """Report counters to Prometheus."""
        lines = prometheus.generate_latest(self.meters)
        return Response(lines, media_type="text/plain; version=0.0.4")

    async def predict(self, wanted: PredictRequest, request: Request) -> Json:
        """Classify one text, or many."""
        texts = checked([wanted.text] if wanted.text is not None else wanted.texts, self.limits)
        if wanted.with_base and "base" not in self.models:
            raise RefusedError(422, "with_base: no base is served", "leave it out")
        rows = await self._ask(request, "model", texts)
        answers = [answer(self.models["model"], row, wanted) for row in rows]
        if wanted.with_base:
            rows = await self._ask(request, "base", texts)
            for own, row in zip(answers, rows, strict=True):
                own["base"] = answer(self.models["base"], row, wanted)
        return {"answers": answers}

    async def explain(self, wanted: ExplainRequest, request: Request) -> Json:
        """Say which words carried an answer: how its log-odds fall without each of them."""
        text = checked([wanted.text], self.limits)[0]
        words = [match.span() for match in WORD.finditer(text)]
        if len(words) > MOST_WORDS:
            what = f"text: {len(words):,} words, at most {MOST_WORDS} are explained"
            raise RefusedError(413, what, "send a shorter text")
        texts = [text, *(text[:start] + text[end:] for start, end in words)]
        answers: Json = {"method": METHOD}
        for name, model in self.models.items():
            rows = await self._ask(request, name, texts, explains=True)
            target, scores = compare(np.stack([logits for logits, _ in rows]))
            answers[name] = {
                "label": model.labels[target],
                "words": [
                    {"start": start, "end": end, "score": round(score, 6)}
                    for (start, end), score in zip(words, scores, strict=True)
                ],
            }
        return answers

    async def info(self) -> Json:
        """Say what is served, by sha256, and within which limits."""
        about: Json = {
            name: {key: getattr(model, key) for key in INFO} for name, model in self.models.items()
        }
        limits = asdict(self.limits)
        return {"base": None, **about, "explained_by": METHOD, "limits": limits}

    async def _ask(
        self, request: Request, name: str, texts: list[str], explains: bool = False
    ) -> list[Scored]:
        """Return what a model says; once the client has left, nothing more is computed."""
        job = self.batcher.submit(name, texts, explains)
        gone = asyncio.create_task(_left(request))
        both: set[asyncio.Future[Any]] = {job, gone}
        try:
            await asyncio.wait(
                both,
                timeout=EXPLAIN_SECONDS if explains else None,
                return_when=asyncio.FIRST_COMPLETED,
            )
            if job.done():
                return job.result()
            if gone.done():
                raise RefusedError(499, "the client has left", "wait for the answer")
            raise RefusedError(503, "too busy with answers to explain one", "try again later")
        finally:
            job.cancel()
            gone.cancel()


def make_app(service: Service, hosts: Hosts) -> Envelope:
    """Return the server's application."""
    app = FastAPI(
        title="bert-lora",
        summary="Classify texts with the served model.",
        docs_url=None,  # FastAPI's pages load their scripts from elsewhere
        redoc_url=None,
        redirect_slashes=False,
        lifespan=service.computing,
        telemetry=NO_TELEMETRY,
        exception_handlers=dict.fromkeys(
            (RequestValidationError, HTTPException, UserError, Exception), refuse
        ),
    )
    for asked in (service.predict, service.explain):
        app.post(f"/{asked.__name__}")(asked)
    for told in (service.health, service.ready, service.info):
        app.get(f"/{told.__name__}")(told)
    app.get("/metrics", response_class=Response)(service.metrics)
    for name in ("", "page.css", "page.js", "page.svg"):
        app.add_route(f"/{name}", partial(_page, STATIC / (name or "index.html")))
    paths = {route.path for route in app.routes if isinstance(route, Route)}
    return Envelope(app, service, hosts, paths)


def checked(texts: list[str], limits: Limits) -> list[str]:
    """Return the texts; refuse too many or too long ones with 413, what is none with 422."""
    if not texts:
        raise RefusedError(422, "texts: none", "send at least one text")
    if len(texts) > limits.texts:
        what = f"texts: {len(texts):,}, at most {limits.texts:,} are allowed"
        raise RefusedError(413, what, "send them in several requests")
    for number, text in enumerate(texts):
        if len(text) > limits.characters:
            what = f"texts.{number}: {len(text):,} characters, at most {limits.characters:,}"
            raise RefusedError(413, what, "send a shorter text")
        if fault := fault_of(text):
            raise RefusedError(422, f"texts.{number}: {fault[0]}", fault[1])
    return texts


def score(model: Predictor, texts: list[str]) -> list[Scored]:
    """Return the logits of the texts, and which of them are cut off."""
    return list(zip(model.logits(texts), model.cut(texts), strict=True))


def answer(model: Predictor, scored: Scored, wanted: PredictRequest) -> Json:
    """Return the likeliest class and its probability, as `bert-lora predict` does."""
    logits, cut = scored
    table = model.shares(logits, wanted.raw).round(DIGITS).tolist()
    best = table.index(max(table))
    made: Json = {"label": model.labels[best], "probability": table[best]}
    if wanted.all:
        made["probabilities"] = dict(zip(model.labels, table, strict=True))
    if cut:
        made["cut"] = True  # the text is longer than what is read of it
    return made


async def refuse(_: Request, error: Any) -> Response:
    """Return what a client is told of an error: one line, which repeats nothing that it sent."""
    if isinstance(error, RequestValidationError):
        first, *others = error.errors()
        place = ".".join(printable(part) for part in first["loc"][1:]) or "body"
        what = f"{place}: {printable(first['msg'], 200)}"
        status = 422
        if first["type"] == "json_invalid":
            what, status = f"body: not valid JSON: {printable(first['ctx']['error'])}", 400
        more = f", and {len(others)} more" if others else ""
        error = RefusedError(status, what + more, "see openapi.json for what is expected")
    elif isinstance(error, UserError):
        error = RefusedError(500, *error.faults[0])
    elif not isinstance(error, HTTPException):
        error = RefusedError(500, "internal error", "see the log of the server")
    return refusal(error)


async def _page(file: Path, _: Request) -> Response:
    return FileResponse(file)


async def _left(request: Request) -> None:
    """Return when the client has left; the body has been read, so nothing else can come."""
    while (await request.receive())["type"] != "http.disconnect":
        pass
