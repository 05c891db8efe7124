"""Clients that ask a server, each over a connection of its own: as fast as they can, or in step."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from http.client import HTTPConnection, HTTPException
from urllib.parse import urlsplit

import numpy as np

HEADERS = {"Content-Type": "application/json"}
TIMEOUT = 60.0  # seconds for one answer


@dataclass(frozen=True)
class Load:
    """What the clients saw.

    Attributes:
        rows_per_second: texts that were answered.
        p50_ms: median time to an answer, in milliseconds.
        p99_ms: time within which 99 of 100 answers came.
        errors: requests that got anything but an answer.
    """

    rows_per_second: float
    p50_ms: float
    p99_ms: float
    errors: int


def measure_load(
    url: str, texts: list[str], clients: int, seconds: float, rate: float | None = None
) -> Load:
    """Return what clients see that ask for one text at a time.

    Args:
        url: of the server.
        texts: are asked for in turn.
        clients: how many ask at once.
        seconds: how long.
        rate: requests a second of all clients together, at fixed times whether or not the answer
            before has come back; an answer's time counts from then. None: as fast as they can.
    """
    times: list[float] = []
    errors: list[str] = []
    start = time.perf_counter()
    end = start + seconds

    def due(client: int) -> Iterator[float]:
        """Give the time of each of a client's requests."""
        number = 0
        while True:
            now = time.perf_counter()
            yield now if rate is None else start + (client + number * clients) / rate
            number += 1

    def ask(client: int) -> None:
        place = urlsplit(url)
        connection = HTTPConnection(place.hostname or "", place.port, timeout=TIMEOUT)
        for number, at in enumerate(due(client)):
            if at >= end:
                break
            time.sleep(max(0.0, at - time.perf_counter()))
            text = texts[(client + number * clients) % len(texts)]
            try:
                connection.request("POST", "/predict", json.dumps({"text": text}), HEADERS)
                response = connection.getresponse()
                response.read()
            except (OSError, HTTPException) as error:
                errors.append(repr(error))
                connection.close()
                continue
            if response.status == 200:
                times.append(time.perf_counter() - at)
            else:
                errors.append(str(response.status))
        connection.close()

    threads = [threading.Thread(target=ask, args=(client,)) for client in range(clients)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    passed = time.perf_counter() - start
    p50, p99 = np.percentile(times, [50, 99]) if times else (np.nan, np.nan)
    return Load(len(times) / passed, 1000 * float(p50), 1000 * float(p99), len(errors))
