"""What /metrics reports, in Prometheus' text format. No text of a client is in it."""

from __future__ import annotations

from collections.abc import Callable

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    Info,
    ProcessCollector,
    generate_latest,
)

SECONDS = (0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0)
SIZES = (1, 2, 4, 8, 16, 32, 64, 128, 256)


class Meters:
    """The server's counters, in a registry of their own."""

    def __init__(self) -> None:
        registry = self._registry = CollectorRegistry()
        ProcessCollector(registry=registry)
        self.requests = Counter(
            "bert_lora_requests",
            "Requests that were answered.",
            ["path", "status"],
            registry=registry,
        )
        self.seconds = Histogram(
            "bert_lora_request_seconds",
            "From the first byte of a request's headers to the end of its answer.",
            ["path"],
            buckets=SECONDS,
            registry=registry,
        )
        self.texts = Counter("bert_lora_texts", "Texts that were classified.", registry=registry)
        self.batch_texts = Histogram(
            "bert_lora_batch_texts", "Texts of a batch.", buckets=SIZES, registry=registry
        )
        self.batch_seconds = Histogram(
            "bert_lora_batch_seconds",
            "Time to compute a batch.",
            buckets=SECONDS,
            registry=registry,
        )
        self.waiting = Gauge(
            "bert_lora_waiting_texts", "Texts that wait to be computed.", registry=registry
        )
        self._model = Info("bert_lora_model", "What is served.", registry=registry)

    def set_model(self, description: str, sha256: str) -> None:
        """Say what is served."""
        self._model.info({"description": description, "sha256": sha256})

    def watch(self, waiting: Callable[[], int]) -> None:
        """Ask this function how many texts wait."""
        self.waiting.set_function(waiting)

    def batch(self, texts: int, seconds: float) -> None:
        """Count a batch that was computed."""
        self.texts.inc(texts)
        self.batch_texts.observe(texts)
        self.batch_seconds.observe(seconds)

    def request(self, path: str, status: int, seconds: float) -> None:
        """Count a request that was answered."""
        self.requests.labels(path, str(status)).inc()
        self.seconds.labels(path).observe(seconds)

    def text(self) -> bytes:
        """Return everything in Prometheus' text format."""
        return generate_latest(self._registry)
