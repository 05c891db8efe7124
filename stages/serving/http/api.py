"""The paths of the server and what each of them answers."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import Future
from functools import partial
from typing import Any

from fastapi import FastAPI, Request, Response
from fastapi.responses import JSONResponse
from pydantic import BaseModel
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp

from stages.core.errors import UserError
from stages.serving.attribution import MOST_WORDS, Explainer, count_words
from stages.serving.http import schema
from stages.serving.http.answers import Question, Scored, answer
from stages.serving.http.batching import ClosedError, FullError
from stages.serving.http.body import RefusedError, check_texts, read_request
from stages.serving.http.envelope import INTERNAL, RETRY_AFTER, Envelope
from stages.serving.http.page import PAGE, PARTS, interface_page, read_static
from stages.serving.http.service import Service
from stages.serving.served import Served

REFUSALS: dict[int | str, dict[str, Any]] = {
    400: {"model": schema.Refusal, "description": "Not JSON in UTF-8"},
    408: {"model": schema.Refusal, "description": "Sent too slowly"},
    413: {"model": schema.Refusal, "description": "Too large, too many or too long texts"},
    415: {"model": schema.Refusal, "description": "Content-Type is not application/json"},
    422: {"model": schema.Refusal, "description": "Not what is expected, or an empty text"},
    503: {"model": schema.Refusal, "description": "Too much waits, or the server is stopping"},
}
NO_TELEMETRY: Any = {"tracing": False, "metrics": False, "logs": False, "auto_configure": False}


def make_app(service: Service) -> ASGIApp:
    """Return the server's application."""
    app = FastAPI(
        title="bert-lora",
        summary="Classify texts with the served model.",
        version="1",
        docs_url=None,  # FastAPI's page loads its scripts from elsewhere
        redoc_url=None,
        redirect_slashes=False,
        telemetry=NO_TELEMETRY,
    )
    _add_answers(app, service)
    _add_state(app, service)
    _add_pages(app)
    app.add_exception_handler(RefusedError, _refuse)
    app.add_exception_handler(HTTPException, _refuse_path)
    app.add_exception_handler(UserError, _fail)
    app.add_exception_handler(Exception, lambda *_: JSONResponse(INTERNAL, 500))
    app.add_exception_handler(ClientDisconnect, lambda *_: Response(status_code=400))
    paths: list[str] = [route.path for route in app.routes]  # type: ignore[attr-defined]  # all are plain routes
    return Envelope(app, paths, service.meters, service.state, service.hosts)


def _add_answers(app: FastAPI, service: Service) -> None:
    """Add the paths that compute something."""

    @app.post(
        "/predict",
        summary="Classify one text, or many.",
        response_model_exclude_none=True,
        responses=REFUSALS,
        openapi_extra=_takes(schema.PredictRequest),
    )
    async def predict(request: Request) -> schema.PredictResponse:
        wanted = await read_request(request, schema.PredictRequest, service.limits)
        texts = wanted.all_texts()
        check_texts(texts, service.limits)
        if wanted.with_base and service.served.base is None:
            raise RefusedError(422, "with_base: no base is served", "leave it out")
        questions = [Question(text, wanted.with_base) for text in texts]
        rows: list[Scored] = await _done(lambda: service.batcher.submit(questions))
        show = partial(answer, service.served)
        return schema.PredictResponse(
            answers=[show(row, wanted.calibrated, wanted.all, wanted.with_base) for row in rows]
        )

    @app.post(
        "/explain",
        summary="Say which words of a text carried its answer.",
        response_model_exclude_none=True,
        responses=REFUSALS,
        openapi_extra=_takes(schema.ExplainRequest),
    )
    async def explain(request: Request) -> schema.ExplainResponse:
        text = (await read_request(request, schema.ExplainRequest, service.limits)).text
        check_texts([text], service.limits)
        if (words := count_words(text)) > MOST_WORDS:
            what = f"text: {words:,} words, at most {MOST_WORDS} are explained"
            raise RefusedError(413, what, "send a shorter text")
        done: schema.ExplainResponse = await _done(
            lambda: service.batcher.call(lambda: explained(service.served, text))
        )
        return done


def _add_state(app: FastAPI, service: Service) -> None:
    """Add the paths that say how the server is."""

    @app.get("/health", summary="Say that the process is alive.")
    async def health() -> schema.Status:
        return schema.Status(status="alive")

    @app.get("/ready", summary="Say whether requests are accepted.", responses={503: REFUSALS[503]})
    async def ready() -> schema.Status:
        if service.state.stopping or not service.batcher.alive:
            raise RefusedError(503, "not ready", "try again later", RETRY_AFTER)
        return schema.Status(status="ready")

    @app.get("/info", summary="Say what is served, by sha256, and within which limits.")
    async def info() -> schema.Info:
        return service.info()

    @app.get("/examples", summary="Show test rows that the adapter fixed, and broke.")
    async def examples() -> schema.Examples:
        return schema.Examples.model_validate({"fixed": [], "broken": [], **service.examples})

    @app.get("/metrics", summary="Report counters to Prometheus.", response_class=Response)
    async def metrics() -> Response:
        return Response(service.meters.text(), media_type="text/plain; version=0.0.4")


def _add_pages(app: FastAPI) -> None:
    """Add the page, its files, and the page on the interface."""

    def add(path: str, content: Callable[[], str], media_type: str) -> None:
        app.add_api_route(
            path,
            lambda: Response(content(), media_type=f"{media_type}; charset=utf-8"),
            include_in_schema=False,
        )

    for path, name in {"/": PAGE, **{f"/{name}": name for name in PARTS}}.items():
        content, media_type = read_static(name)
        add(path, lambda content=content: content, media_type)  # type: ignore[misc]  # a default
    add("/docs", lambda: interface_page(app.openapi()), "text/html")


def explained(served: Served, text: str) -> schema.ExplainResponse:
    """Return which words of a text carried the answers of model and base."""

    def one(explainer: Explainer) -> schema.ExplainedAnswer:
        found = explainer.explain(text)
        return schema.ExplainedAnswer(
            label=served.model.labels[found.target],
            words=[
                schema.WordScore(start=start, end=end, score=round(score, 6))
                for start, end, score in found.words
            ],
            special=round(found.special, 6),
            total=round(found.total, 6),
            error=round(found.error, 6),
        )

    answers = {name: one(explainer) for name, explainer in served.explainers.items()}
    return schema.ExplainResponse(method=served.explainers["model"].method, **answers)


async def _done(start: Callable[[], Future[Any]]) -> Any:
    """Return the result of work that the batcher accepts."""
    try:
        future = start()
    except FullError as full:
        what = "too many requests wait"
        raise RefusedError(503, what, "try again later", full.retry_after) from None
    except ClosedError:
        raise RefusedError(503, "the server is stopping", "try again later", RETRY_AFTER) from None
    return await asyncio.wrap_future(future)


def _takes(kind: type[BaseModel]) -> dict[str, Any]:
    """Return the part of the OpenAPI schema that says what a request's body is."""
    content = {"application/json": {"schema": kind.model_json_schema()}}
    return {"requestBody": {"required": True, "content": content}}


async def _refuse(_: Request, refused: Any) -> Response:
    wait = refused.retry_after
    headers = {"Retry-After": str(wait)} if wait is not None else None
    return JSONResponse({"error": refused.what, "fix": refused.fix}, refused.status, headers)


async def _refuse_path(_: Request, error: Any) -> Response:
    content = {"error": str(error.detail), "fix": "see /docs for the paths and their methods"}
    return JSONResponse(content, error.status_code, error.headers)


async def _fail(_: Request, error: Any) -> Response:
    what, fix = error.faults[0]
    return JSONResponse({"error": what, "fix": fix}, 500)
