"""From bytes to checked texts: each malformed request gets a status of its own and one line."""

from __future__ import annotations

import json

import pytest
from starlette.testclient import TestClient

from stages.serving.http.body import RefusedError, parse
from stages.serving.http.schema import PredictRequest

JSON = {"Content-Type": "application/json"}


@pytest.mark.parametrize(
    ("body", "status", "error", "fix"),
    [
        (b"", 400, "body: not valid JSON: EOF", "send one JSON object"),
        (b"{", 400, "body: not valid JSON", "send one JSON object"),
        (b'{"text": "a"} x', 400, "body: not valid JSON: trailing", "send one JSON object"),
        (b"[" * 100_000, 400, "recursion limit exceeded", "send one JSON object"),
        (b'{"text": "\xff"}', 400, "body: not UTF-8 at byte 10", "send UTF-8"),
        (b'{"text": "\xed\xa0\x80"}', 400, "body: not UTF-8 at byte 10", "send UTF-8"),
        (rb'{"text": "\ud800"}', 400, "hex escape", "send characters as UTF-8"),
        (rb'{"text": "\udc00 a"}', 400, "", "send characters as UTF-8"),
        (b"[]", 422, "body: Input should be an object", "see /docs"),
        (b"null", 422, "body: Input should be an object", "see /docs"),
        (b"{}", 422, "body: give either text or texts", "see /docs"),
        (b'{"text": "a", "texts": ["b"]}', 422, "give either text or texts", "see /docs"),
        (b'{"text": 1}', 422, "text: Input should be a valid string", "see /docs"),
        (b'{"text": 1e999999}', 422, "text: Input should be a valid string", "see /docs"),
        (b'{"text": NaN}', 422, "text: Input should be a valid string", "see /docs"),
        (b'{"texts": "a"}', 422, "texts: Input should be a valid array", "see /docs"),
        (b'{"texts": ["a", null, 7]}', 422, "texts.1: Input should be a valid string", "see"),
        (b'{"text": "a", "all": "yes"}', 422, "all: Input should be a valid boolean", "see"),
        (b'{"text": "a", "x\\u001b[2J": 1}', 422, "x\\x1b[2J: Extra inputs", "see /docs"),
    ],
)
def test_a_malformed_body_is_refused(body: bytes, status: int, error: str, fix: str) -> None:
    with pytest.raises(RefusedError) as refused:
        parse(body, PredictRequest)
    assert refused.value.status == status
    assert error in refused.value.what
    assert refused.value.fix.startswith(fix)
    assert len(refused.value.what) < 400


def test_many_faults_are_named_up_to_ten() -> None:
    body = json.dumps({"text": "a"} | {f"x{number}": 1 for number in range(1000)})
    with pytest.raises(RefusedError) as refused:
        parse(body.encode(), PredictRequest)
    assert refused.value.what.count("Extra inputs") == 10
    assert refused.value.what.endswith("; and 990 more")


@pytest.mark.parametrize(
    ("content", "status", "error"),
    [
        ({"texts": []}, 422, "texts: none"),
        ({"text": " \n "}, 422, "texts.0: empty text"),
        ({"texts": ["a", "\u3000", ""]}, 422, "texts.1: empty text; texts.2: empty text"),
        ({"text": "a\0b"}, 422, "texts.0: holds a NUL character"),
        ({"texts": ["a"] * 9}, 413, "texts: 9, at most 8 are allowed"),
        ({"texts": ["a", "b" * 201]}, 413, "texts.1: 201 characters, at most 200"),
        ({"texts": ["b" * 4000]}, 413, "body: more than 4,000 bytes"),
    ],
)
def test_texts_beyond_the_limits_are_refused(
    client: TestClient, content: dict[str, object], status: int, error: str
) -> None:
    response = client.post("/predict", json=content)
    assert (response.status_code, response.json()["error"]) == (status, error)
    assert response.json()["fix"]
    closes = response.headers.get("connection") == "close"
    assert closes == (status == 413)


@pytest.mark.parametrize(
    "content_type",
    ["", "text/plain", "application/x-www-form-urlencoded", "application/json; charset=latin-1"],
)
def test_another_content_type_is_refused(client: TestClient, content_type: str) -> None:
    headers = {"Content-Type": content_type}
    response = client.post("/predict", content=b'{"text": "good"}', headers=headers)
    assert response.status_code == 415
    assert "application/json" in response.json()["error"]


@pytest.mark.parametrize(
    "content_type", ["application/json", "Application/JSON; charset=UTF-8", "application/json;"]
)
def test_json_in_utf_8_is_accepted(client: TestClient, content_type: str) -> None:
    content = "\ufeff" + json.dumps({"text": "good schön"}, ensure_ascii=False)
    headers = {"Content-Type": content_type}
    response = client.post("/predict", content=content.encode(), headers=headers)
    assert response.status_code == 200


def test_a_body_in_pieces_is_limited_too(client: TestClient) -> None:
    pieces = (b"x" * 1000 for _ in range(5))
    response = client.post("/predict", content=pieces, headers=JSON)
    assert response.status_code == 413
