"""A running server: its connections, its clients, its end, and what the command refuses."""

import json
import resource
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

import httpx2
import pytest

from stages.core import paths
from stages.core.errors import HostError
from stages.tools.predictor import open_predictor
from stages.tools.serve import app as serve_envelope
from stages.tools.serve import run as serve_run
from stages.tools.serve.app import PredictRequest, answer, score
from stages.tools.serve.run import listen
from tests.support.command import Command
from tests.support.server import Words, process, serving, word_server
from tests.support.tiny import COMPUTE, ROOT, table

PATIENCE = 60  # seconds; nothing here takes that long
HEAD = b"POST /predict HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
WORDS = [sys.executable, "-m", "tests.support.server"]
TEXTS = [text for text, _ in table(classes=2, rows=30, seed=9)]


def until(condition: Callable[[], Any]) -> None:
    """Wait until it holds."""
    end = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.02)


def ends(client: socket.socket) -> bytes:
    """Return what the server still sends before it closes the connection."""
    client.settimeout(PATIENCE)
    answer = b""
    try:
        while piece := client.recv(65536):
            answer += piece
    except ConnectionError:
        pass
    return answer


def test_an_explanation_does_not_hold_up_an_answer() -> None:
    with word_server(Words(seconds=0.02)) as server, ThreadPoolExecutor(1) as pool:
        explanation = pool.submit(server.post, "/explain", text="good " * 200)
        until(lambda: server.metric("bert_lora_texts_total") > 8)
        assert server.post("/predict", text="good").status_code == 200
        assert not explanation.done()
        assert len(explanation.result().json()["model"]["words"]) == 200


def test_texts_of_clients_that_left_are_not_computed(caplog: pytest.LogCaptureFixture) -> None:
    words = Words(seconds=0.05)
    body = json.dumps({"texts": ["gone " * 9] * 64}).encode()
    with word_server(words) as server:
        for _ in range(4):
            with socket.create_connection(server.address) as client:
                client.sendall(HEAD + b"Content-Length: %d\r\n\r\n" % len(body) + body)
                until(lambda: server.metric("bert_lora_waiting_texts") > 0)
        until(lambda: server.metric("bert_lora_waiting_texts") == 0)
        assert server.post("/predict", text="good").status_code == 200
    assert not caplog.records
    computed = [text for batch in words.batches for text in batch if text.startswith("gone")]
    assert 0 < len(computed) < 4 * 32  # a few batches of each client's 64


def test_connections_that_send_nothing_give_way_and_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(serve_run, "CONNECTIONS", 8)
    monkeypatch.setattr(serve_run, "HEADER_SECONDS", 5.0)
    with word_server(Words()) as server:
        held = [socket.create_connection(server.address) for _ in range(30)]
        held[-1].sendall(b"GET /health HTTP/1.1\r\nHost: ")  # and no more of it
        until(lambda: httpx2.get(f"{server.url}/health").status_code == 200)
        assert [ends(client) for client in held] == [b""] * 30


def test_a_connection_that_is_kept_ends_after_a_while(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(serve_run, "KEEP_ALIVE", 1)
    with word_server(Words()) as server, socket.create_connection(server.address) as client:
        client.sendall(b"GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n")
        time.sleep(0.5)
        client.sendall(b"GET /health HT")  # bytes of a header do not prolong it
        assert ends(client).startswith(b"HTTP/1.1 200")


def test_a_client_that_does_not_read_is_left(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(serve_run, "KEEP_ALIVE", 1)
    with word_server(Words()) as server, socket.socket() as client:
        fds = server.metric("process_open_fds")
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        client.connect(server.address)
        client.settimeout(1)
        with suppress(TimeoutError):
            client.sendall(b"GET /page.js HTTP/1.1\r\nHost: localhost\r\n\r\n" * 20_000)
        until(lambda: server.metric("process_open_fds") < fds + 2)
    assert not caplog.records  # nor can it make the log grow


def test_a_body_that_comes_too_slowly_is_a_408(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(serve_envelope, "BODY_SECONDS", 1.0)
    with word_server(Words()) as server, socket.create_connection(server.address) as client:
        client.sendall(HEAD + b"Content-Length: 100\r\n\r\n{")
        answer = ends(client)
    assert answer.startswith(b"HTTP/1.1 408")
    assert b"body: not complete after 1 seconds" in answer


def test_more_requests_than_places_get_503(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(serve_run, "CONNECTIONS", 8)
    with word_server(Words(seconds=0.3)) as server, ThreadPoolExecutor(16) as pool:
        responses = pool.map(lambda _: server.post("/predict", text="a"), range(16))
        assert {response.status_code for response in responses} == {200, 503}


def test_few_files_do_not_flood_the_log(tmp_path: Path) -> None:
    def few() -> None:
        resource.setrlimit(resource.RLIMIT_NOFILE, (64, 64))

    with process(WORDS, tmp_path, preexec_fn=few) as server:
        held = [socket.create_connection(server.address) for _ in range(120)]
        until(lambda: httpx2.get(f"{server.url}/health", timeout=10).status_code == 200)
        assert len(server.log) == 1
        for client in held:
            client.close()


BEGUN = b"GET /page.js HTTP/1.1\r\nHost: a\r\n\r\n"


@pytest.mark.parametrize(
    ("content", "answer"),
    [
        (b"\x00\x01\x02\r\n\r\n", b"HTTP/1.1 400"),
        (b"GET / NOT/HTTP\r\n\r\n", b"HTTP/1.1 400"),
        (BEGUN + b"\x00\x01\r\n\r\n", b"HTTP/1.1 200"),
        (HEAD + b"Transfer-Encoding: chunked\r\n\r\nzz\r\n", b"HTTP/1.1 400"),
        (b"GET /health HTTP/1.0\r\nHost: a\r\n\r\n", b"HTTP/1.1 200"),
    ],
)
def test_what_is_no_http_ends_the_connection_and_is_not_logged(
    content: bytes, answer: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    with word_server(Words()) as server, socket.create_connection(server.address) as client:
        client.sendall(content)
        assert ends(client).startswith(answer)
        assert httpx2.get(f"{server.url}/health").status_code == 200
    assert not caplog.records


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_told_to_stop_it_refuses_what_waits_and_ends(tmp_path: Path, number: int) -> None:
    held = tmp_path / "held"
    held.touch()
    with process(WORDS, tmp_path) as server, ThreadPoolExecutor(3) as pool:
        assert server.process is not None
        with httpx2.Client(base_url=server.url) as idle:  # a connection that stays open
            assert idle.get("/ready").status_code == 200
            asked = [pool.submit(server.post, "/explain", text="good " * 99) for _ in range(3)]
            # Of three times a text and what is left of it without a word, one batch is computed.
            until(lambda: server.metric("bert_lora_waiting_explanations") == 3 * 100 - 8)
            server.process.send_signal(number)
            until(lambda: all(one.done() for one in asked))
            held.unlink()
            assert server.process.wait(30) == 0
        assert [one.result().status_code for one in asked] == [503] * 3
        assert len(server.log) == 1


def test_what_is_computed_is_answered_before_the_end(tmp_path: Path) -> None:
    held = tmp_path / "held"
    held.touch()
    with process(WORDS, tmp_path) as server, ThreadPoolExecutor(2) as pool:
        assert server.process is not None
        # One text more than a batch holds, so that one request is answered and one is not.
        asked = [pool.submit(server.post, "/predict", texts=["good"] * n) for n in (1, 8)]
        until(lambda: server.metric("bert_lora_waiting_texts") > 0)
        server.process.terminate()
        until(lambda: any(one.done() for one in asked))
        held.unlink()
        assert sorted(one.result().status_code for one in asked) == [200, 503]
        assert server.process.wait(30) == 0


@pytest.mark.parametrize("host", ["nowhere.invalid", "a" * 300, "ü..x", "192.0.2.1"])
def test_another_machine_is_one_line(host: str) -> None:
    with pytest.raises(HostError, match="--host"):
        listen(host, 0)


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["--port", "65536"], 2, "'--port': Input should be less than or equal to 65535"),
        (["nothing", "--port", "0"], 5, "nothing: no such folder"),
        (["metrics", "--port", "0"], 4, "export.json: not found: not a folder of bert-lora export"),
        (["--port", "PORT"], 5, "Address already in use"),
    ],
)
def test_a_mistake_is_one_line(
    command: Command, project: Path, arguments: list[str], code: int, message: str
) -> None:
    assert Path.cwd() == project
    with listen("127.0.0.1", 0) as other:
        port = str(other.getsockname()[1])
        result = command("serve", *(port if one == "PORT" else one for one in arguments))
    assert (result.code, len(result.err.splitlines())) == (code, 1)
    assert message in result.err


def test_without_a_package_or_an_adapter_it_says_what_to_do(
    command: Command, tmp_cwd: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    result = command("serve", "--port", "0")
    assert result.code == 5
    assert "not found: stage " in result.err
    for name in ("app", "run"):
        monkeypatch.delitem(sys.modules, f"stages.tools.serve.{name}")
    monkeypatch.setitem(sys.modules, "fastapi", None)
    result = command("serve")
    assert (result.code, "fastapi is not installed. Fix: run: pip" in result.err) == (5, True)
    assert list(tmp_cwd.iterdir()) == []


@pytest.mark.slow
def test_one_model_answers_explains_and_is_named_whatever_becomes_of_the_files(
    project: Path,
) -> None:
    model = open_predictor(None, COMPUTE)
    request = PredictRequest.model_validate({"text": "a"})
    expected = [answer(model, row, request) for row in score(model, TEXTS)]
    with serving(project, "--host", "0.0.0.0") as server:  # noqa: S104  # to see what it says
        assert "whoever reaches this address can ask" in server.log[0]
        before = httpx2.get(f"{server.url}/info").json()
        shutil.rmtree(paths.ADAPTER)
        shutil.rmtree(paths.BASE_MODEL)
        asked = partial(server.post, "/predict", with_base=True)
        with ThreadPoolExecutor(8) as pool:  # so batches of any size
            responses = list(pool.map(lambda text: asked(text=text), TEXTS))
        for response, wanted in zip(responses, expected, strict=True):
            own = response.json()["answers"][0]
            assert own["label"] == wanted["label"]
            assert own["probability"] == pytest.approx(wanted["probability"], abs=1e-5)
            assert own["base"]["label"] in model.labels
        explained = server.post("/explain", text=TEXTS[0]).json()
        assert explained["model"]["label"] == expected[0]["label"]
        assert httpx2.get(f"{server.url}/info").json() == before
        assert before["model"]["sha256"] == model.sha256


@pytest.mark.slow
def test_the_transcript_of_the_readme_is_what_happens(project: Path) -> None:
    readme = (ROOT / "models/README.md").read_text(encoding="utf-8")
    block = readme.partition("$ bert-lora serve &\n")[2].partition("```")[0]
    served, request, shown = block.split("\n", 2)
    with serving(project) as server:
        assert server.log == [f"{served}\n".replace("http://127.0.0.1:8000", server.url)]
        line = request.removeprefix("$ ").replace("http://127.0.0.1:8000", server.url)
        done = subprocess.run(["bash", "-c", line], capture_output=True, text=True, check=True)
    assert json.loads(done.stdout).keys() == json.loads(shown).keys()
    assert json.loads(done.stdout)["answers"][0].keys() == {"label", "probability"}
