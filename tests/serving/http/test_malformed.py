"""A thousand malformed requests, made up by Hypothesis: each gets a 4xx and one line."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from starlette.testclient import TestClient

from stages.serving.http.api import make_app
from tests.support.server import word_service

Malformed = tuple[str, str, bytes, str]  # method, path, body, content type
JSON_TYPE = "application/json"
REQUESTS = 1200
OTHER_NAMES = st.text(max_size=8).filter(lambda name: name not in ("text", "texts"))
SCALARS = st.one_of(
    st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=20), st.just(10**4000)
)
VALUES = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(OTHER_NAMES, inner, max_size=4),
    max_leaves=12,
)
NOT_STRINGS = VALUES.filter(lambda value: not isinstance(value, str))
NOT_BOOLEANS = VALUES.filter(lambda value: not isinstance(value, bool))
EMPTY = st.text(alphabet=" \t\r\n\u00a0\u2003\u3000", max_size=5)
WITH_NUL = st.tuples(st.text(max_size=9), st.text(max_size=9)).map("\0".join)


def is_json(body: bytes) -> bool:
    """Return whether the body is JSON at all."""
    try:
        json.loads(body)
    except (ValueError, RecursionError):
        return False
    return True


def dumped(value: Any) -> bytes:
    """Return JSON as Python writes it, with NaN and infinities and with escapes of surrogates."""
    before = sys.get_int_max_str_digits()
    sys.set_int_max_str_digits(0)
    try:
        return json.dumps(value).encode()
    finally:
        sys.set_int_max_str_digits(before)


WRONG_TEXTS = st.one_of(
    st.fixed_dictionaries({"text": NOT_STRINGS.filter(lambda value: value is not None)}),
    st.fixed_dictionaries({"text": EMPTY | WITH_NUL}),
    st.fixed_dictionaries({"text": st.just("a" * 201)}),
    st.fixed_dictionaries({"texts": NOT_STRINGS.filter(lambda value: not isinstance(value, list))}),
    st.fixed_dictionaries({"texts": st.lists(NOT_STRINGS, min_size=1, max_size=4)}),
    st.fixed_dictionaries({"texts": st.lists(EMPTY | WITH_NUL, max_size=4)}),
    st.fixed_dictionaries({"texts": st.lists(st.just("a"), min_size=9, max_size=50)}),
    st.fixed_dictionaries({"text": st.just("a"), "texts": VALUES}),
)
WRONG_OPTIONS = st.one_of(
    st.dictionaries(
        OTHER_NAMES.filter(lambda name: name not in ("all", "with_base", "calibrated")),
        VALUES,
        min_size=1,
        max_size=3,
    ),
    *(st.fixed_dictionaries({name: NOT_BOOLEANS}) for name in ("all", "with_base", "calibrated")),
).map(lambda options: {"text": "a", **options})
VALID = dumped({"texts": ["a good film", "another"], "all": True})
BODIES = st.one_of(
    st.binary(max_size=60).filter(lambda body: not is_json(body)),
    st.integers(0, len(VALID) - 1).map(lambda end: VALID[:end]),
    st.sampled_from([b"[", b'{"text":', b'{"texts":[']).flatmap(
        lambda piece: st.integers(1, 60_000).map(lambda times: piece * times)
    ),
    st.integers(0xD800, 0xDFFF).map(lambda code: b'{"text": "a \\u%04x b"}' % code),
    st.integers(0xD800, 0xDFFF).map(
        lambda code: b'{"text": "' + chr(code).encode("utf-8", "surrogatepass") + b'"}'
    ),
    st.sampled_from([b'{"text": -1e99999}', b'{"text": ' + b"9" * 3000 + b"}", b"NaN", b"-"]),
    VALUES.map(dumped),
    WRONG_TEXTS.map(dumped),
    WRONG_OPTIONS.map(dumped),
)
OTHER_TYPES = st.text(st.characters(min_codepoint=32, max_codepoint=126), max_size=30).filter(
    lambda text: "json" not in text.lower()
)
MALFORMED: st.SearchStrategy[Malformed] = st.one_of(
    BODIES.map(lambda body: ("POST", "/predict", body, JSON_TYPE)),
    BODIES.filter(lambda body: (b"texts" not in body and b"text" in body) or not is_json(body)).map(
        lambda body: ("POST", "/explain", body, JSON_TYPE)
    ),
    OTHER_TYPES.map(lambda kind: ("POST", "/predict", VALID, kind)),
    st.tuples(
        st.sampled_from(["GET", "PUT", "DELETE", "PATCH", "OPTIONS"]),
        st.sampled_from(["/predict", "/explain"]),
    ).map(lambda pair: (*pair, b"", JSON_TYPE)),
    st.tuples(
        st.sampled_from(["POST", "PUT", "DELETE"]),
        st.sampled_from(["/", "/health", "/ready", "/info", "/metrics", "/page.js", "/docs"]),
    ).map(lambda pair: (*pair, VALID, JSON_TYPE)),
    st.text(st.sampled_from("abz/-_~%20"), min_size=1, max_size=20)
    .map(lambda text: f"/x/{text}".replace("%", "%25"))
    .map(lambda path: ("GET", path, b"", JSON_TYPE)),
)


@pytest.fixture(scope="module")
def client() -> Iterator[TestClient]:
    """Return a client of one application for all requests."""
    service = word_service(body_bytes=100_000, texts=8, characters=200, waiting=16)
    yield TestClient(make_app(service), follow_redirects=False)
    service.batcher.close(timeout=10)


@settings(
    max_examples=REQUESTS,
    deadline=None,
    derandomize=True,
    database=None,
    suppress_health_check=list(HealthCheck),
)
@given(MALFORMED)
def test_a_malformed_request_gets_a_4xx_and_one_line(client: TestClient, sent: Malformed) -> None:
    method, path, body, kind = sent
    response = client.request(method, path, content=body, headers={"Content-Type": kind})
    assert 400 <= response.status_code < 500
    content = response.json()
    assert set(content) == {"error", "fix"}
    assert len(content["error"].splitlines()) == 1
    assert len(content["error"]) < 2000
    assert "Traceback" not in response.text


def test_a_request_that_is_right_is_answered_after_all_that(client: TestClient) -> None:
    response = client.post("/predict", content=VALID, headers={"Content-Type": JSON_TYPE})
    assert [row["label"] for row in response.json()["answers"]] == ["positive", "negative"]
