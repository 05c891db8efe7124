"""From the bytes of a request to checked texts; every fault is a status and one line."""

from __future__ import annotations

import asyncio
import re
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError
from starlette.requests import Request

from stages.core.errors import printable
from stages.serving.http.limits import Limits
from stages.serving.texts import fault_of

Model = TypeVar("Model", bound=BaseModel)
MOST_FAULTS = 10  # that one refusal names
READ_ON = 8  # times the limit: read and dropped, so that the client gets to read the refusal
JSON_TYPE = re.compile(r"application/json\s*(?:;\s*charset\s*=\s*\"?utf-?8\"?\s*)?;?\s*", re.I)
LOCATION_LIMIT = 60  # characters of a key that the client made up


class RefusedError(Exception):
    """A request that gets no answer.

    Args:
        status: of HTTP.
        what: the fault.
        fix: what to do about it, as an instruction.
        retry_after: seconds after which to try again, if that helps.
    """

    def __init__(self, status: int, what: str, fix: str, retry_after: int | None = None) -> None:
        super().__init__(what)
        self.status, self.what, self.fix, self.retry_after = status, what, fix, retry_after


async def read_request(request: Request, kind: type[Model], limits: Limits) -> Model:
    """Return the request's body as the type.

    Raises:
        RefusedError: with 400 if it is not JSON, 408 if it comes too slowly, 413 if it is too
            large, 415 if it is not said to be JSON, 422 if it is something else than the type.
    """
    content_type = request.headers.get("content-type", "")
    if not JSON_TYPE.fullmatch(content_type.strip()):
        raise RefusedError(
            415,
            f"Content-Type {printable(content_type) or 'missing'}: not application/json",
            "send JSON in UTF-8 with the header Content-Type: application/json",
        )
    return parse(await _read(request, limits), kind)


def parse(content: bytes, kind: type[Model]) -> Model:
    """Return the bytes of a JSON document as the type.

    Raises:
        RefusedError: with 400 or 422, naming every fault without repeating what the client sent.
    """
    try:
        # No lone surrogate passes: in the bytes it is no UTF-8, and an escape of one is an error.
        return kind.model_validate_json(content.decode("utf-8-sig"))
    except UnicodeDecodeError as error:
        raise RefusedError(400, f"body: not UTF-8 at byte {error.start}", "send UTF-8") from None
    except ValidationError as error:
        faults = error.errors(include_url=False, include_context=False, include_input=False)
    if faults[0]["type"] == "json_invalid":
        what = printable(faults[0]["msg"].removeprefix("Invalid JSON: "), 200)
        escape = "escape" in what or "surrogate" in what
        fix = "send characters as UTF-8, not as escapes" if escape else "send one JSON object"
        raise RefusedError(400, f"body: not valid JSON: {what}", fix)
    lines = [f"{_place(fault['loc'])}: {printable(fault['msg'], 200)}" for fault in faults]
    more = [f"and {len(lines) - MOST_FAULTS} more"] if len(lines) > MOST_FAULTS else []
    raise RefusedError(422, "; ".join(lines[:MOST_FAULTS] + more), "see /docs for what is expected")


def check_texts(texts: list[str], limits: Limits) -> None:
    """Check number, length and content of the texts.

    Raises:
        RefusedError: with 413 for too many or too long ones, otherwise 422.
    """
    if not texts:
        raise RefusedError(422, "texts: none", "send at least one text")
    if len(texts) > limits.texts:
        what = f"texts: {len(texts):,}, at most {limits.texts:,} are allowed"
        raise RefusedError(413, what, "send them in several requests")
    for number, text in enumerate(texts):
        if len(text) > limits.characters:
            what = f"texts.{number}: {len(text):,} characters, at most {limits.characters:,}"
            raise RefusedError(413, what, "send a shorter text")
    faults = [(number, fault) for number, text in enumerate(texts) if (fault := fault_of(text))]
    if faults:
        lines = [f"texts.{number}: {fault[0]}" for number, fault in faults[:MOST_FAULTS]]
        more = [f"and {len(faults) - MOST_FAULTS} more"] if len(faults) > MOST_FAULTS else []
        raise RefusedError(422, "; ".join(lines + more), faults[0][1][1])


async def _read(request: Request, limits: Limits) -> bytes:
    content = bytearray()
    seen = 0
    try:
        async with asyncio.timeout(limits.body_seconds):
            async for chunk in request.stream():
                seen += len(chunk)
                if seen <= limits.body_bytes:
                    content += chunk
                elif seen > READ_ON * limits.body_bytes:
                    break
    except TimeoutError:
        what = f"body: not complete after {limits.body_seconds:g} seconds"
        raise RefusedError(408, what, "send it faster, or send less") from None
    if seen > limits.body_bytes:
        what = f"body: more than {limits.body_bytes:,} bytes"
        raise RefusedError(413, what, "send the texts in several requests")
    return bytes(content)


def _place(location: tuple[Any, ...]) -> str:
    return ".".join(printable(part, LOCATION_LIMIT) for part in location) or "body"
