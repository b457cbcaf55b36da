"""metrics — what Prometheus is told: requests, seconds, rows, what is under way, which translators there are.

In    what happened
Out   text in Prometheus' format
Uses  prometheus-client

Labels are the service's own words (routes and the names of translators), never a client's: no text or address gets in, and
nobody can fill the memory with labels.
"""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, ProcessCollector, generate_latest

__all__ = ["Metrics"]

SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30)
ELSEWHERE = "other"


class Metrics:
    """The instruments of one application, in a registry of their own."""

    def __init__(self) -> None:
        self._registry = CollectorRegistry()
        ProcessCollector(registry=self._registry)
        told = self._registry
        self._requests = Counter("crossvec_requests", "Requests answered.", ["route", "status"], registry=told)
        self._seconds = Histogram(
            "crossvec_request_seconds", "Seconds from a request's head to the end of its answer.", ["route"],
            buckets=SECONDS, registry=told,
        )  # fmt: skip
        self._rows = Counter("crossvec_rows", "Rows translated.", ["translator", "route"], registry=told)
        self._translator = Gauge(
            "crossvec_translator", "1 for each translator served.", ["translator", "source_dim", "target_dim", "status"],
            registry=told,
        )  # fmt: skip
        self.under_way = Gauge("crossvec_requests_under_way", "Requests that hold a place.", registry=told)

    def served(self, name: str, source_dim: int, target_dim: int, status: str) -> None:
        """Note a translator that is served."""
        self._translator.labels(name, source_dim, target_dim, status).set(1)

    def answered(self, route: str, status: int, seconds: float) -> None:
        """Note a request's end; `route` is "" where no route matched."""
        self._requests.labels(route or ELSEWHERE, status).inc()
        self._seconds.labels(route or ELSEWHERE).observe(seconds)

    def translated(self, name: str, route: str, rows: int) -> None:
        """Note rows that were translated."""
        self._rows.labels(name, route).inc(rows)

    def text(self) -> bytes:
        """Return everything, as Prometheus reads it."""
        return generate_latest(self._registry)
