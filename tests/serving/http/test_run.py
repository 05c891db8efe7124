"""The socket, and how a server starts and ends, in a process of its own."""

from __future__ import annotations

import json
import os
import random
import signal
import socket
import threading
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx2
import psutil
import pytest

from stages.core.errors import HostError
from stages.serving.http.run import listen, url_of
from tests.support.server import Running, serving
from tests.support.tiny import COMPUTE, table

TEXTS = [text for text, _ in table(classes=2, rows=40, seed=9)]
PATIENCE = 60  # seconds; nothing here takes that long
LOAD_SECONDS = float(os.environ.get("LOAD_SECONDS", "6"))
GROWTH = 20e6  # bytes, that memory may grow by in the second half of the load


def test_port_0_is_a_free_one() -> None:
    with listen("127.0.0.1", 0) as first, listen("127.0.0.1", 0) as second:
        assert url_of(first) != url_of(second)
        assert url_of(first).startswith("http://127.0.0.1:")


def test_an_ipv6_address_is_written_in_brackets() -> None:
    try:
        listener = listen("::1", 0)
    except HostError:
        pytest.skip("no IPv6 here")
    with listener:
        assert url_of(listener).startswith("http://[::1]:")


def test_a_port_in_use_is_one_line() -> None:
    with listen("127.0.0.1", 0) as first:
        port = first.getsockname()[1]
        with pytest.raises(HostError) as error:
            listen("127.0.0.1", port)
    assert str(error.value) == (
        f"error: bert-lora serve: 127.0.0.1:{port}: in use by another program. "
        "Fix: stop that, or choose another with --port"
    )


@pytest.mark.parametrize("host", ["nowhere.invalid", "a" * 300, "ü..x", "192.0.2.1"])
def test_another_machine_is_one_line(host: str) -> None:
    with pytest.raises(HostError, match="--host"):
        listen(host, 0)


@pytest.fixture
def server(project: Path) -> Iterator[Running]:
    with serving(project) as running:
        yield running


def expected_answers(project: Path) -> dict[str, tuple[str, float]]:
    """Return label and probability of `bert-lora predict` for each text."""
    from stages.tools.predict_answers import answers

    assert Path.cwd() == project
    chunks = answers(iter(TEXTS), COMPUTE, with_base=False, every_class=False)
    return {row["text"]: (row["label"], row["probability"]) for rows, _ in chunks for row in rows}


class Clients:
    """Threads that ask for one text or a few, again and again, and remember what came back.

    Attributes:
        seen: how often each outcome occurred.
        lost: what went wrong with requests that were sent before the server was told to stop.
        told: when that was, or None.
    """

    def __init__(self, url: str, expected: dict[str, tuple[str, float]], number: int) -> None:
        self.url, self.expected = url, expected
        self.seen: Counter[str] = Counter()
        self.lost: list[str] = []
        self.told: float | None = None
        self._end = threading.Event()
        self._threads = [
            threading.Thread(target=self._ask, args=(seed,), daemon=True) for seed in range(number)
        ]
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        """Let every thread finish its request."""
        self._end.set()
        for thread in self._threads:
            thread.join(PATIENCE)
            assert not thread.is_alive()

    def _ask(self, seed: int) -> None:
        chance = random.Random(seed)  # noqa: S311  # made-up load
        with httpx2.Client(base_url=self.url, timeout=PATIENCE) as client:
            while not self._end.is_set():
                texts = chance.sample(TEXTS, chance.choice([1, 1, 1, 5]))
                sent = time.monotonic()
                try:
                    response = client.post("/predict", json={"texts": texts, "calibrated": False})
                except httpx2.ConnectError:
                    self.seen["refused to connect"] += 1
                    time.sleep(0.01)
                except httpx2.HTTPError as error:
                    if self.told is None or sent < self.told:
                        self.lost.append(repr(error))
                    self.seen["refused to answer"] += 1
                else:
                    self._check(texts, response)

    def _check(self, texts: list[str], response: Any) -> None:
        self.seen[str(response.status_code)] += 1
        if response.status_code == 503:
            assert response.json()["error"]
            return
        if response.status_code != 200:
            self.lost.append(response.text)
            return
        for text, answer in zip(texts, response.json()["answers"], strict=True):
            label, probability = self.expected[text]
            if answer["label"] != label or abs(answer["probability"] - probability) > 1e-5:
                self.lost.append(f"{text}: {answer}")


@pytest.mark.slow
def test_sigterm_under_load_loses_no_accepted_request(project: Path, server: Running) -> None:
    clients = Clients(server.url, expected_answers(project), number=16)
    wait_for(lambda: clients.seen["200"] > 50)
    clients.told = time.monotonic()
    server.process.send_signal(signal.SIGTERM)
    assert server.process.wait(PATIENCE) == 0
    wait_for(lambda: clients.seen["refused to connect"] > 0)
    clients.stop()
    assert clients.lost == []
    assert set(clients.seen) <= {"200", "503", "refused to connect", "refused to answer"}
    assert len(server.log) == 1


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_it_ends_at_once_when_nobody_asks(server: Running, number: signal.Signals) -> None:
    with httpx2.Client(base_url=server.url) as client:  # an idle connection stays open
        assert client.get("/ready").status_code == 200
        server.process.send_signal(number)
        assert server.process.wait(PATIENCE) == 0
    assert len(server.log) == 1


@pytest.mark.slow
def test_a_second_signal_ends_it_in_the_middle_of_a_request(server: Running) -> None:
    host, port = server.url.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port))) as client:
        head = b"POST /predict HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
        client.sendall(head + b"Content-Length: 100\r\n\r\n{")
        time.sleep(0.3)
        server.process.send_signal(signal.SIGTERM)
        time.sleep(1)
        assert server.process.poll() is None
        server.process.send_signal(signal.SIGTERM)
        assert server.process.wait(PATIENCE) == 1
    assert server.log[1:] == ["warning: accepted requests not answered: 1\n"]


@pytest.mark.slow
def test_a_request_that_came_before_the_signal_is_answered(server: Running) -> None:
    host, port = server.url.removeprefix("http://").split(":")
    body = json.dumps({"text": "good w1"}).encode()
    with socket.create_connection((host, int(port))) as client:
        head = b"POST /predict HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
        client.sendall(head + b"Content-Length: %d\r\n\r\n" % len(body) + body[:5])
        time.sleep(0.3)
        server.process.send_signal(signal.SIGTERM)
        time.sleep(1)
        client.sendall(body[5:])
        answer = b""
        while piece := client.recv(65536):
            answer += piece
    assert answer.startswith(b"HTTP/1.1 200")
    assert b"positive" in answer
    assert server.process.wait(PATIENCE) == 0


@pytest.mark.slow
def test_what_is_no_http_gets_a_400(server: Running) -> None:
    host, port = server.url.removeprefix("http://").split(":")
    for content in (b"\x00\x01\x02\r\n\r\n", b"GET / NOT/HTTP\r\n\r\n", b"x" * 200_000):
        with socket.create_connection((host, int(port))) as client:
            answer = b""
            try:
                client.sendall(content)
                answer = client.recv(4096)
            except ConnectionError:
                continue  # closed before all of it was read
            assert answer.startswith(b"HTTP/1.1 400")
            assert b"Traceback" not in answer
    assert httpx2.get(f"{server.url}/ready").status_code == 200


@pytest.mark.slow
def test_under_load_answers_are_those_of_predict_and_memory_is_flat(
    project: Path, server: Running
) -> None:
    process = psutil.Process(server.process.pid)
    clients = Clients(server.url, expected_answers(project), number=8)
    wait_for(lambda: clients.seen["200"] > 300)
    time.sleep(LOAD_SECONDS / 2)
    half = process.memory_info().rss
    time.sleep(LOAD_SECONDS / 2)
    end = process.memory_info().rss
    clients.stop()
    assert clients.lost == []
    assert set(clients.seen) == {"200"}
    assert end - half < GROWTH
    print(dict(clients.seen), f"{half / 1e6:.0f} MB, {end / 1e6:.0f} MB")


def wait_for(condition: Any) -> None:
    """Wait until the condition holds."""
    for _ in range(PATIENCE * 20):
        if condition():
            return
        time.sleep(0.05)
    raise AssertionError("waited in vain")
