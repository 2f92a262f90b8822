"""What Prometheus reads at /metrics."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

if TYPE_CHECKING:
    from hotrow.serve.served import Served

_SECONDS = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30)


class Requests:
    """Counters of one server's requests, in a registry of its own, and what else `collectors` tell."""

    def __init__(self, *collectors: Collector) -> None:
        self._registry = CollectorRegistry()
        registry: dict[str, Any] = {"registry": self._registry}
        self._requests = Counter("hotrow_requests", "Answers by path and status", ["path", "status"], **registry)
        self._seconds = Histogram(
            "hotrow_request_seconds", "Seconds to an answer", ["path"], buckets=_SECONDS, **registry
        )
        self.in_flight = 0
        flying = Gauge("hotrow_requests_in_flight", "Requests that aren't answered yet", **registry)
        flying.set_function(lambda: self.in_flight)
        self._kept: dict[tuple[str, int], tuple[Any, Any]] = {}
        for one in collectors:
            self._registry.register(one)

    def answered(self, path: str, status: int, seconds: float) -> None:
        """A request for a known path, or "other", was answered."""
        kept = self._kept.get((path, status))
        if kept is None:  # to find them by their labels costs more than to count
            kept = self._requests.labels(path, str(status)), self._seconds.labels(path)
            self._kept[path, status] = kept
        kept[0].inc()
        kept[1].observe(seconds)

    def text(self) -> bytes:
        """All of it, as Prometheus reads it."""
        return generate_latest(self._registry)


class Measures(Requests):
    """Counters of a server of a folder, too."""

    def __init__(self, current: Callable[[], Served]) -> None:
        super().__init__(_Now(current))
        registry: dict[str, Any] = {"registry": self._registry}
        self._ids = Counter("hotrow_ids", "Ids looked up", ["side"], **registry)
        self._unknown = Counter("hotrow_unknown_ids", "Ids asked for that have no row", ["side"], **registry)
        self._of_side: dict[str, Any] = {}
        self._saves = Counter(
            "hotrow_saves_followed", "Newer saves that are served, or were found broken", ["how"], **registry
        )
        for how in ("served", "broken"):
            self._saves.labels(how)

    def looked_up(self, side: str, count: int) -> None:
        """So many ids of a side were looked up."""
        if side not in self._of_side:
            self._of_side[side] = self._ids.labels(side)
        self._of_side[side].inc(count)

    def unknown(self, side: str, count: int) -> None:
        """So many ids of a side weren't there."""
        self._unknown.labels(side).inc(count)

    def followed(self, how: str) -> None:
        """A newer save is "served", or is "broken"."""
        self._saves.labels(how).inc()


class _Now(Collector):
    """What is told of what is served at the moment that is asked."""

    def __init__(self, current: Callable[[], Served]) -> None:
        self._current = current

    def collect(self) -> Iterator[GaugeMetricFamily]:
        """Which save is served, and the ids of each side."""
        folder = self._current().folder
        served = GaugeMetricFamily("hotrow_served", "Which save is served", labels=["stamp", "kind"])
        served.add_metric([folder.stamp, folder.kind], 1)
        yield served
        rows = GaugeMetricFamily("hotrow_rows", "Ids that have a vector", labels=["side"])
        for name, vectors in folder.sides.items():
            rows.add_metric([name], len(vectors))
        yield rows
