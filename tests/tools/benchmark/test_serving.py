"""The measurement of ways to answer texts: clients, contenders, the table."""

from __future__ import annotations

import json
import threading
from collections import Counter
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from stages.core import paths
from stages.core.errors import HostError, ParamsError
from stages.tools.benchmark.command import check_serving
from stages.tools.benchmark.load import measure_load
from stages.tools.benchmark.serving import (
    NAMES,
    benchmark_serving,
    measure_contender,
    summary,
    table_of,
)
from tests.support.command import Command

SEEN: Counter[str] = Counter()


class Echo(BaseHTTPRequestHandler):
    """Counts the texts; `bad` is refused."""

    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:  # the library's name
        """Answer one request."""
        text = json.loads(self.rfile.read(int(self.headers["Content-Length"])))["text"]
        SEEN[text] += 1
        self.send_response(422 if text == "bad" else 200)
        self.send_header("Content-Length", "2")
        self.end_headers()
        self.wfile.write(b"{}")

    def log_message(self, *_: object) -> None:
        """Print nothing."""


@pytest.fixture
def url() -> Iterator[str]:
    SEEN.clear()
    server = ThreadingHTTPServer(("127.0.0.1", 0), Echo)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


def test_clients_count_answers_and_errors(url: str) -> None:
    load = measure_load(url, ["good", "bad", "fine", "w1"], clients=4, seconds=0.3)
    assert SEEN["bad"] == load.errors > 0
    assert load.rows_per_second > 0
    assert 0 < load.p50_ms <= load.p99_ms
    assert set(SEEN) == {"good", "bad", "fine", "w1"}


def test_clients_keep_to_a_rate(url: str) -> None:
    load = measure_load(url, ["good"], clients=2, seconds=0.5, rate=40)
    assert SEEN["good"] == 20
    assert load.errors == 0


def test_a_server_that_is_gone_is_counted_as_errors() -> None:
    load = measure_load("http://127.0.0.1:9", ["good"], clients=1, seconds=0.1, rate=50)
    assert load.errors == 5
    assert load.rows_per_second == 0


def test_ratios_are_those_within_a_turn() -> None:
    def turn(rows: float, **others: float) -> dict[str, float]:
        return {"rows_per_second": rows, "p50_ms": 1.0, "p99_ms": rows, **others}

    turns = {
        "pipeline": [turn(10), turn(20), turn(10)],
        "server": [turn(30, errors=0), turn(40, errors=2), turn(50, errors=0)],
    }
    found = summary("server", turns)
    assert found["rows_per_second"] == [30, 40, 50]
    assert found["to_pipeline"] == {"median": 3, "low": 2, "high": 5}
    assert (found["median"], found["p99_ms"], found["errors"]) == (40, 40, 2)
    results = {"rows": 1000, "threads": 2, "contenders": {"server": found | {"half_p99_ms": 7.4}}}
    assert table_of(results).splitlines()[-1] == (
        "| *server* | 40 | 3.0 (2.0 to 5.0) | 1.0 ms | 40.0 ms | 7 ms |"
    )


def test_options_of_training_are_refused_beside_it(command: Command, project: Path) -> None:
    check_serving(50, accuracy=False, adapters=None)
    with pytest.raises(ParamsError, match="together with an option of training"):
        check_serving(50, accuracy=True, adapters=None)
    (project / "stages").mkdir()
    (project / "dvc.yaml").touch()
    result = command("benchmark", "--serving", "--steps", "3")
    assert (result.code, len(result.err.splitlines())) == (2, 1)


@pytest.mark.slow
def test_a_contender_that_fails_is_one_line(project: Path, tmp_path: Path) -> None:
    assert Path.cwd() == project
    (tmp_path / "texts.json").write_text('["good"]', encoding="utf-8")
    with pytest.raises(HostError, match=r"benchmark: onnx: error: .* no such folder"):
        measure_contender("onnx", tmp_path / "nothing", tmp_path / "texts.json")


@pytest.mark.slow
def test_every_contender_is_measured(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("onnxruntime")
    benchmark_serving(repeats=1, seconds=1)
    results = json.loads((project / paths.SERVING).read_text(encoding="utf-8"))
    assert list(results["contenders"]) == sorted(NAMES)
    for found in results["contenders"].values():
        assert found["median"] > 0
        assert 0 < found["p50_ms"] <= found["p99_ms"]
        assert found.get("errors", 0) == 0
    assert results["contenders"]["pipeline"]["to_pipeline"]["median"] == 1
    assert set(results["exports"]) == {"merged", "onnx", "int8"}
    assert results["exports"]["merged"]["flipped"] == 0
    assert "| *server* |" in capsys.readouterr().out
