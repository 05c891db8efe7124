"""What each path answers, on a scorer that needs no model."""

from __future__ import annotations

import math
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families
from starlette.testclient import TestClient

from stages.serving.http.api import make_app
from stages.serving.http.service import Service
from tests.support.server import WordScorer, word_service

PATIENCE = 20  # seconds; nothing here takes that long


def share(logit: float) -> float:
    """Return the probability of the second of two classes."""
    return round(1 / (1 + math.exp(-logit)), 9)


def predict(client: TestClient, **body: Any) -> Any:
    """Return the answers to a request that is right."""
    response = client.post("/predict", json=body)
    assert response.status_code == 200, response.text
    return response.json()["answers"]


def test_one_text_has_a_label_and_a_calibrated_probability(client: TestClient) -> None:
    assert predict(client, text="good good film") == [
        {"label": "positive", "probability": share(2 / 2)}
    ]


def test_many_texts_are_answered_in_their_order(client: TestClient) -> None:
    texts = ["bad", "good", "a bad bad film", "film"]
    answers = predict(client, texts=texts)
    assert [row["label"] for row in answers] == ["negative", "positive", "negative", "negative"]
    assert [row["probability"] for row in answers] == [share(v / 2) for v in (1, 1, 2, 0)]


def test_every_class_and_the_base_come_on_request(client: TestClient) -> None:
    (row,) = predict(client, text="good", all=True, with_base=True)
    assert row["probabilities"] == {"negative": share(-1 / 2), "positive": share(1 / 2)}
    base = row["base"]
    assert base["probabilities"] == {"negative": share(-1 / 4), "positive": share(1 / 4)}
    assert (base["label"], base["probability"]) == ("positive", share(1 / 4))


def test_the_temperature_can_be_left_out(client: TestClient) -> None:
    (row,) = predict(client, text="good", calibrated=False, with_base=True)
    assert (row["probability"], row["base"]["probability"]) == (share(1), share(1 / 2))


def test_a_text_that_is_cut_off_is_marked(client: TestClient) -> None:
    fits, longer = predict(client, texts=["w " * 13 + "w", "w " * 14 + "w"])
    assert "cut" not in fits
    assert longer["cut"] is True


def test_without_a_base_there_is_none() -> None:
    alone = word_service(base=False)
    client = TestClient(make_app(alone))
    response = client.post("/predict", json={"text": "a", "with_base": True})
    assert (response.status_code, response.json()["error"]) == (422, "with_base: no base is served")
    assert client.get("/info").json()["base"] is None
    assert "base" not in client.post("/explain", json={"text": "a"}).json()
    alone.batcher.close(PATIENCE)


def hold(service: Service) -> threading.Event:
    """Keep the batcher busy until the event is set."""
    begun, go = threading.Event(), threading.Event()

    def wait() -> None:
        begun.set()
        assert go.wait(PATIENCE)

    service.batcher.call(wait)
    assert begun.wait(PATIENCE)
    return go


def wait_until_waiting(service: Service, texts: int) -> None:
    """Wait until so many texts wait."""
    pause = threading.Event()
    for _ in range(PATIENCE * 100):
        if service.batcher.waiting >= texts:
            return
        pause.wait(0.01)
    raise AssertionError(service.batcher.waiting)


def test_requests_that_arrive_together_are_computed_together(
    service: Service, client: TestClient
) -> None:
    go = hold(service)
    with ThreadPoolExecutor(4) as pool:
        texts = ["good", "bad", "good good", "bad bad"]
        futures = [pool.submit(predict, client, text=text) for text in texts]
        wait_until_waiting(service, 4)
        go.set()
        labels = [future.result()[0]["label"] for future in futures]
    assert labels == ["positive", "negative"] * 2
    model = service.served.model
    assert isinstance(model, WordScorer)
    assert [sorted(batch) for batch in model.batches] == [sorted(texts)]


def test_a_full_queue_is_a_503_that_says_when_to_come_again(
    service: Service, client: TestClient
) -> None:
    go = hold(service)
    with ThreadPoolExecutor(2) as pool:
        futures = [pool.submit(predict, client, texts=["good"] * 8) for _ in range(2)]
        wait_until_waiting(service, 16)
        response = client.post("/predict", json={"text": "good"})
        assert response.status_code == 503
        assert response.json() == {"error": "too many requests wait", "fix": "try again later"}
        assert int(response.headers["retry-after"]) >= 1
        go.set()
        assert [len(future.result()) for future in futures] == [8, 8]
    assert predict(client, text="good")[0]["label"] == "positive"


def test_a_number_that_is_none_is_a_500_of_that_request_alone(
    service: Service, client: TestClient
) -> None:
    go = hold(service)
    with ThreadPoolExecutor(2) as pool:
        bad = pool.submit(client.post, "/predict", json={"text": "nan"})
        good = pool.submit(predict, client, text="good")
        wait_until_waiting(service, 2)
        go.set()
        assert good.result()[0]["label"] == "positive"
        response = bad.result()
    assert response.status_code == 500
    assert response.json()["error"] == "words: a logit is not a finite number"


def test_a_bug_is_a_500_without_a_traceback(
    service: Service, capsys: pytest.CaptureFixture[str]
) -> None:
    def broken(*_: object) -> None:
        raise ZeroDivisionError("secret")

    object.__setattr__(service.served.model, "score", broken)
    client = TestClient(make_app(service))
    response = client.post("/predict", json={"text": "good"})
    assert (response.status_code, response.json()) == (
        500,
        {"error": "internal error", "fix": "see the log of the server"},
    )
    assert "secret" in capsys.readouterr().err
    assert client.get("/ready").status_code == 200


def test_a_server_that_stops_refuses_new_requests(service: Service, client: TestClient) -> None:
    assert client.get("/ready").json() == {"status": "ready"}
    service.state.stopping = True
    for method, path in (("POST", "/predict"), ("GET", "/"), ("GET", "/ready")):
        response = client.request(method, path)
        assert response.status_code == 503
        assert int(response.headers["retry-after"]) >= 1
        assert response.headers["connection"] == "close"
    assert client.get("/health").json() == {"status": "alive"}
    assert client.get("/metrics").status_code == 200


def test_a_path_with_a_slash_at_its_end_is_another_one(client: TestClient) -> None:
    assert client.post("/predict/", json={"text": "good"}).status_code == 404


@pytest.mark.parametrize(
    ("host", "status"),
    [
        *[(host, 200) for host in ("localhost:8000", "127.0.0.1", "[::1]:80", "LocalHost.")],
        *[(host, 403) for host in ("rebound.example", "localhost.example:8000", "")],
    ],
)
def test_a_request_to_another_name_is_refused(service: Service, host: str, status: int) -> None:
    service.hosts = frozenset({"localhost", "127.0.0.1", "::1"})
    client = TestClient(make_app(service))
    response = client.get("/examples", headers={"Host": host})
    assert response.status_code == status
    assert (status == 200) != ("not a name of this server" in response.text)


def test_a_closed_batcher_is_not_ready(service: Service, client: TestClient) -> None:
    service.batcher.close(PATIENCE)
    assert client.get("/ready").status_code == 503
    assert client.post("/predict", json={"text": "good"}).status_code == 503


def test_info_names_what_is_served(client: TestClient) -> None:
    info = client.get("/info").json()
    model = {"description": "words", "labels": ["negative", "positive"], "max_length": 16}
    assert info["model"] == model | {"temperature": 2.0, "sha256": "ab" * 32}
    assert info["base"]["description"] == "words"
    assert info["files"] == {"model": "ab" * 32}
    assert info["explained_by"].startswith("occlusion")
    assert info["limits"] == {
        "body_bytes": 4000,
        "texts": 8,
        "characters": 200,
        "waiting": 16,
        "batch": 4,
        "body_seconds": 10.0,
        "drain_seconds": 30.0,
    }


def test_an_explanation_says_what_each_word_adds(client: TestClient) -> None:
    text = "good bad good"
    explained = client.post("/explain", json={"text": text}).json()
    model = explained["model"]
    assert model["label"] == "positive"
    words = [(text[word["start"] : word["end"]], word["score"]) for word in model["words"]]
    assert words == [("good", 1.0), ("bad", -1.0), ("good", 1.0)]
    assert (model["total"], model["error"]) == (1.0, 0.0)
    assert [word["score"] for word in explained["base"]["words"]] == [0.5, -0.5, 0.5]
    assert explained["method"] == "occlusion: the text without each word in turn"


def test_a_text_of_too_many_words_is_not_explained() -> None:
    wide = word_service(characters=2000)
    response = TestClient(make_app(wide)).post("/explain", json={"text": "w " * 301})
    assert (response.status_code, response.json()["error"]) == (
        413,
        "text: 301 words, at most 300 are explained",
    )
    wide.batcher.close(PATIENCE)


def test_metrics_count_requests_and_texts(client: TestClient) -> None:
    predict(client, texts=["good", "bad"])
    client.post("/predict", content=b"{")
    client.get("/nothing/here")
    values = {
        (sample.name, *sorted(sample.labels.items())): sample.value
        for family in text_string_to_metric_families(client.get("/metrics").text)
        for sample in family.samples
    }

    def count(path: str, status: str) -> Any:
        return values["bert_lora_requests_total", ("path", path), ("status", status)]

    assert count("/predict", "200") == count("/predict", "415") == count("other", "404") == 1
    assert values[("bert_lora_texts_total",)] == 2
    assert values[("bert_lora_waiting_texts",)] == 0
    assert values["bert_lora_batch_texts_bucket", ("le", "2.0")] == 1
    assert ("bert_lora_model_info", ("description", "words"), ("sha256", "ab" * 32)) in values


def test_the_schema_says_what_is_taken_and_given(client: TestClient) -> None:
    schema = client.get("/openapi.json").json()
    assert set(schema["paths"]) == {
        *("/predict", "/explain", "/health", "/ready", "/info", "/examples", "/metrics"),
    }
    operation = schema["paths"]["/predict"]["post"]
    body = operation["requestBody"]["content"]["application/json"]["schema"]
    assert set(body["properties"]) == {"text", "texts", "all", "with_base", "calibrated"}
    assert body["additionalProperties"] is False
    assert set(operation["responses"]) == {"200", "400", "408", "413", "415", "422", "503"}
    answer = schema["components"]["schemas"]["Answer"]
    assert set(answer["required"]) == {"label", "probability"}


def test_examples_are_those_of_the_service(service: Service, client: TestClient) -> None:
    assert client.get("/examples").json() == {"fixed": [], "broken": []}
    row = {"text": "a <b>", "label": "positive", "base": "negative", "adapter": "positive"}
    service.examples = {"fixed": [row], "broken": []}
    assert client.get("/examples").json() == {"fixed": [row], "broken": []}


def test_nothing_is_written_while_it_answers(client: TestClient, tmp_cwd: Path) -> None:
    predict(client, text="good")
    assert list(tmp_cwd.iterdir()) == []
