"""What each path takes, answers and refuses, on a model of counted words."""

import json
import math
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from starlette.testclient import TestClient

from stages.tools.serve import app as serve_app
from stages.tools.serve.app import Envelope, Hosts
from tests.support.server import LIMITS, Words, word_app

JSON = {"Content-Type": "application/json"}
STATIC = Path(serve_app.__file__).parent / "static"
PATHS = {"/predict", "/explain", "/info", "/health", "/ready", "/metrics"}


@pytest.fixture(scope="module")
def client() -> Iterator[TestClient]:
    with TestClient(word_app(Words())) as made:
        yield made


def predict(client: TestClient, **body: Any) -> Any:
    """Return the answers to a request that is right."""
    response = client.post("/predict", json=body)
    assert response.status_code == 200, response.text
    return response.json()["answers"]


def share(logit: float) -> float:
    """Return the probability of the second of two classes."""
    return round(1 / (1 + math.exp(-logit)), 9)


def row(label: str, logit: float, **more: Any) -> dict[str, Any]:
    """Return an answer."""
    return {"label": label, "probability": share(logit), **more}


BOTH = {"negative": share(-1), "positive": share(1)}
BASE = row("positive", 1 / 2, probabilities={"negative": share(-1 / 2), "positive": share(1 / 2)})


@pytest.mark.parametrize(
    ("body", "answers"),
    [
        ({"text": "good good film"}, [row("positive", 2)]),
        ({"text": "good", "raw": True}, [row("positive", 1 * 2)]),
        ({"texts": ["bad bad", "a"]}, [row("negative", 2), row("negative", 0)]),
        ({"texts": ["w " * 13 + "good"]}, [row("positive", 1)]),  # 16 tokens are read
        ({"texts": ["w " * 14 + "good"]}, [row("positive", 1, cut=True)]),
        ({"texts": ["good \ufdfa"]}, [row("positive", 1, cut=True)]),  # one character, 18 tokens
        (
            {"text": "good", "all": True, "with_base": True},
            [row("positive", 1, probabilities=BOTH, base=BASE)],
        ),
    ],
)
def test_an_answer_has_label_and_probability(
    client: TestClient, body: dict[str, Any], answers: list[dict[str, Any]]
) -> None:
    assert predict(client, **body) == answers


def test_an_explanation_says_what_each_word_adds(client: TestClient) -> None:
    text = "good 👍 好 bad  good."
    explained = client.post("/explain", json={"text": text}).json()
    words = [(text[w["start"] : w["end"]], w["score"]) for w in explained["model"]["words"]]
    assert words == [("good", -1.0), ("👍", 0.0), ("好", 0.0), ("bad", 1.0), ("good.", 0.0)]
    assert explained["model"]["label"] == "negative"  # a tie


@pytest.mark.parametrize(
    ("body", "status", "error"),
    [
        (b"", 422, "body: Field required"),
        (b"{", 400, "body: not valid JSON"),
        (b'{"text": "a"} x', 400, "body: not valid JSON: Extra data"),
        (b"[" * 30_000, 400, "There was an error parsing the body"),
        (b'{"text": "\xff"}', 400, "There was an error parsing the body"),
        (rb'{"text": "\ud800"}', 422, "texts.0: not UTF-8, or half of a surrogate pair"),
        (b"[]", 422, "body: Input should be"),
        (b"null", 422, "body: "),
        (b"{}", 422, "body: give either text or texts"),
        (b'{"text": "a", "texts": ["b"]}', 422, "body: give either text or texts"),
        (b'{"text": 1}', 422, "text: Input should be a valid string"),
        (b'{"text": NaN}', 422, "text: Input should be a valid string"),
        (b'{"texts": ["a", null, 7]}', 422, "texts.1: Input should be a valid string"),
        (b'{"text": "a", "all": "yes"}', 422, "all: Input should be a valid boolean"),
        (b'{"text": "a", "x\\u001b[2J": 1}', 422, "x\\x1b[2J: Extra inputs are not permitted"),
        (b'{"text": 1, "y": 1, "z": 1}', 422, "text: Input should be a valid string, and 2 more"),
        ({"texts": []}, 422, "texts: none"),
        ({"text": " \n "}, 422, "texts.0: empty text"),
        ({"texts": ["a", "\u3000"]}, 422, "texts.1: empty text"),
        ({"text": "a\0b"}, 422, "texts.0: holds a NUL character"),
        ({"texts": ["a"] * 65}, 413, "texts: 65, at most 64 are allowed"),
        ({"texts": ["a", "b" * 2001]}, 413, "texts.1: 2,001 characters, at most 2,000"),
        ({"texts": ["b" * 40_000]}, 413, "body: more than 40,000 bytes"),
        ({"text": "nan"}, 500, "words: a logit is not a finite number"),
        ({"texts": {"a": [1e999]}}, 422, "texts: Input should be a valid list"),
    ],
)
def test_a_malformed_request_is_refused_with_one_line(
    client: TestClient, body: bytes | dict[str, Any], status: int, error: str
) -> None:
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    response = client.post("/predict", content=content, headers=JSON)
    assert response.status_code == status, response.text
    assert response.json()["error"].startswith(error)
    assert len(response.json()["error"].splitlines()) == 1
    assert response.json()["fix"]
    assert predict(client, text="good")


def test_a_body_in_pieces_is_limited_too(client: TestClient) -> None:
    response = client.post("/predict", content=(b"x" * 9000 for _ in range(5)), headers=JSON)
    assert response.status_code == 413


@pytest.mark.parametrize(
    ("method", "path", "kind", "status"),
    [
        ("POST", "/predict", "text/plain", 415),
        ("POST", "/predict", "", 415),
        ("POST", "/predict", "application/x-www-form-urlencoded", 415),
        ("POST", "/predict", "Application/JSON; charset=UTF-8", 200),
        ("GET", "/predict", "", 405),
        ("POST", "/health", "application/json", 405),
        ("PUT", "/page.js", "", 405),
        ("POST", "/predict/", "application/json", 404),
        ("GET", "/nothing/here", "", 404),
        ("GET", "/../app.py", "", 404),
        ("HEAD", "/health", "", 200),
        ("HEAD", "/", "", 200),
        ("HEAD", "/nothing", "", 404),
    ],
)
def test_a_path_has_its_methods_and_its_type(
    client: TestClient, method: str, path: str, kind: str, status: int
) -> None:
    content = b'{"text": "good"}' if method == "POST" else b""
    response = client.request(method, path, content=content, headers={"Content-Type": kind})
    assert response.status_code == status, response.text
    assert "default-src 'none'" in response.headers["content-security-policy"]
    assert status == 200 or method == "HEAD" or set(response.json()) == {"error", "fix"}


def test_a_text_of_too_many_words_is_not_explained(client: TestClient) -> None:
    response = client.post("/explain", json={"text": "w " * 301})
    assert response.status_code == 413
    assert response.json()["error"] == "text: 301 words, at most 300 are explained"


def test_without_a_base_there_is_none() -> None:
    with TestClient(word_app(Words(), base=False)) as client:
        response = client.post("/predict", json={"text": "a", "with_base": True})
        assert (response.status_code, response.json()["fix"]) == (422, "leave it out")
        assert client.get("/info").json()["base"] is None
        assert "base" not in client.post("/explain", json={"text": "a"}).json()


LOCAL = [("localhost:80", 200), ("LocalHost.", 200), ("127.0.0.1", 200), ("[::1]:8", 200)]


@pytest.mark.parametrize(
    ("host", "address", "allowed", "path", "asked"),
    [
        ("127.0.0.1", "127.0.0.1", [], "/info", [*LOCAL, ("rebound.example", 403), ("", 403)]),
        ("LOCALHOST", "127.0.0.1", [], "/info", [*LOCAL, ("rebound.example", 403)]),
        ("127.1", "127.0.0.1", [], "/", [*LOCAL, ("127.1:8", 200), ("a.example", 403)]),
        ("::ffff:127.0.0.1", "::ffff:127.0.0.1", [], "/", [*LOCAL, ("a.example", 403)]),
        ("127.0.0.1", "127.0.0.1", [], "/health", [("a.example", 403), ("10.1.2.3", 403)]),
        ("0.0.0.0", "0.0.0.0", [], "/info", [("any.example", 200), ("", 200)]),  # noqa: S104  # any
        ("::", "::", ["A.example"], "/info", [*LOCAL, ("a.example", 200), ("10.1.2.3:8", 403)]),
        ("::", "::", ["[2001:DB8:0::1]"], "/", [("[2001:db8::1]:8", 200), ("[2001:db8::2]", 403)]),
        ("::", "::", ["a.example:8443"], "/", [("A.Example.:8443", 200), ("b.example", 403)]),
        *(
            ("::", "::", ["a.example"], path, [("10.1.2.3:8000", 200), ("", 200)])
            for path in ("/health", "/ready", "/metrics")
        ),
    ],
)
def test_a_request_gives_a_name_of_the_server(
    host: str, address: str, allowed: list[str], path: str, asked: list[tuple[str, int]]
) -> None:
    client = TestClient(word_app(Words(), hosts=Hosts(host, address, allowed)))
    found = [(name, client.get(path, headers={"Host": name}).status_code) for name, _ in asked]
    assert found == asked


def test_a_server_that_stops_refuses_and_says_so() -> None:
    app: Envelope = word_app(Words())
    with TestClient(app) as client:
        assert client.get("/ready").json() == {"status": "ready"}
        app.service.batcher.close()
        for path in ("/", "/ready", "/info"):
            response = client.get(path)
            assert (response.status_code, response.headers["retry-after"]) == (503, "5")
            assert response.headers["connection"] == "close"
        assert client.post("/predict", json={"text": "a"}).status_code == 503
        assert client.get("/health").json() == {"status": "alive"}
        assert client.get("/metrics").status_code == 200


def test_a_bug_is_a_500_without_a_traceback(
    client: TestClient, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(serve_app, "answer", lambda *_: 1 // 0)
    response = client.post("/predict", json={"text": "good"})
    assert (response.status_code, response.json()) == (
        500,
        {"error": "internal error", "fix": "see the log of the server"},
    )
    assert "ZeroDivisionError" in capsys.readouterr().err


def test_an_explanation_that_waits_too_long_is_a_503(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(serve_app, "EXPLAIN_SECONDS", 0.05)
    with TestClient(word_app(Words(seconds=0.1))) as client:
        response = client.post("/explain", json={"text": "good film"})
    assert (response.status_code, response.headers["retry-after"]) == (503, "5")


def test_info_names_what_is_served(client: TestClient) -> None:
    info = client.get("/info").json()
    model = {"description": "words", "labels": ["negative", "positive"], "max_length": 16}
    assert info["model"] == model | {"temperature": 2.0, "sha256": "ab" * 32}
    assert info["limits"]["texts"] == LIMITS.texts
    schema = client.get("/openapi.json").json()
    assert set(schema["paths"]) == PATHS
    fields = schema["components"]["schemas"]["PredictRequest"]["properties"]
    assert set(fields) == {"text", "texts", "all", "with_base", "raw"}


def test_metrics_count_requests_and_texts() -> None:
    with TestClient(word_app(Words())) as client:
        predict(client, texts=["good", "bad"])
        client.post("/predict", content=b"{")
        client.get("/nothing/here")
        lines = client.get("/metrics").text.splitlines()
    for line in (
        'bert_lora_requests_total{path="/predict",status="200"} 1.0',
        'bert_lora_requests_total{path="/predict",status="415"} 1.0',
        'bert_lora_requests_total{path="other",status="404"} 1.0',
        "bert_lora_texts_total 2.0",
        "bert_lora_waiting_texts 0.0",
    ):
        assert line in lines


@pytest.mark.parametrize("name", ["", "page.css", "page.js", "page.svg"])
def test_the_page_asks_below_its_own_address_and_has_nothing_inline(
    client: TestClient, name: str
) -> None:
    text = client.get(f"/{name}").text
    assert text == (STATIC / (name or "index.html")).read_text(encoding="utf-8")
    assert not re.search(r"url\(|@import|\bimport\(|//cdn|https?://(?!www\.w3\.org)", text)
    assert not re.search(r"<script(?![^>]* src=)|<style|\sstyle=|\son[a-z]+=", text)
    assert not re.search(r"innerHTML|outerHTML|insertAdjacent|document\.write|\beval\b", text)
    assert not re.search(r'(?:src|href|ask\()="?/', text)
    for asked in re.findall(r'(?:src|href)="([^"#]+)"|ask\("([^"]+)"', text):
        path = f"/{asked[0] or asked[1]}"
        assert client.get(path).status_code == (405 if path in ("/predict", "/explain") else 200)
