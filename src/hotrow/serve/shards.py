"""The tables of a cluster for Prometheus: once as text, or over HTTP at /metrics, looked at anew for each scrape."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Iterator, Sequence
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response

from hotrow.serve.answers import Answer, Call, refusal
from hotrow.serve.desk import AtDesk
from hotrow.serve.endpoints import Endpoint
from hotrow.serve.limits import Limits
from hotrow.serve.measures import Requests
from hotrow.serve.reading import Fields

if TYPE_CHECKING:
    from hotrow.cluster.status import ShardStatus, TableStatus, Told

Look = Callable[[], Sequence["TableStatus"]]

_GAUGES: dict[str, tuple[str, Callable[[Any], float | None]]] = {
    "rows": ("Rows that the shard holds", lambda told: told.rows),
    "steps": ("Number of the last step of the table that the shard had a part in", lambda told: told.steps),
    "heard_changes": ("Number of the last change that the shard knows of", lambda told: told.heard),
    "applied_changes": ("Number of the last change that the shard has", lambda told: told.applied),
    "durable_changes": ("Number of the last change that the shard has on disk", lambda told: told.durable),
    "lag_changes": ("Changes that the shard knows of and hasn't got yet", lambda told: told.lag),
    "not_durable_changes": ("Changes that the shard has and its disk hasn't", lambda told: told.not_on_disk),
    "waiting_requests": ("Requests that wait for a change", lambda told: told.waiting),
    "start_time_seconds": ("When the shard was started, since the epoch", lambda told: told.started),
    "last_keep_timestamp_seconds": (
        "When the shard last wrote to its disk what it has, since the epoch",
        lambda told: told.kept,
    ),
}
_COUNTERS: dict[str, tuple[str, Callable[[Any], float]]] = {
    "pulls": ("Requests for vectors", lambda told: told.pulls),
    "pushes": ("Steps", lambda told: told.pushes),
    "pulled_rows": ("Ids whose vectors were asked for", lambda told: told.rows_pulled),
    "pushed_rows": ("Ids that were moved by steps", lambda told: told.rows_pushed),
    "received_bytes": ("Bytes of requests", lambda told: told.bytes_in),
    "sent_bytes": ("Bytes of answers", lambda told: told.bytes_out),
    "busy_seconds": ("Seconds in which the shard worked at requests", lambda told: told.seconds_busy),
}
_LABELS = ("table", "shard")


class Shards(Collector):
    """What a look says, as metrics. Of a shard that isn't up there is `hotrow_shard_up` 0, and nothing out of date."""

    def __init__(self, look: Look) -> None:
        self._look = look

    def describe(self) -> list[Metric]:
        """Nothing: to be registered it needn't be looked at."""
        return []

    def collect(self) -> Iterator[Metric]:
        """All tables and their shards, as they are now."""
        tables = self._look()
        yield GaugeMetricFamily("hotrow_cluster_tables", "Tables of the cluster", value=len(tables))
        shards = [([table.name, f"{i + 1} of {len(table.shards)}"], shard)
                  for table in tables for i, shard in enumerate(table.shards)]  # fmt: skip
        up = GaugeMetricFamily("hotrow_shard_up", "1 if the shard answers", labels=_LABELS)
        info = GaugeMetricFamily(
            "hotrow_shard_info", "What the shard is, and where",
            labels=[*_LABELS, "state", "node", "address", "pid", "dim", "ids", "optimizer"],
        )  # fmt: skip
        restarts = CounterMetricFamily("hotrow_shard_restarts", "How often it was started again", labels=_LABELS)
        sizes = GaugeMetricFamily("hotrow_shard_bytes", "Bytes that the shard's table takes", labels=[*_LABELS, "part"])
        for labels, shard in shards:
            up.add_metric(labels, shard.alive)
            info.add_metric([*labels, shard.state, *_where(shard), *_what(shard)], 1)
            if shard.restarts is not None:
                restarts.add_metric(labels, shard.restarts)
            if shard.alive and shard.told is not None:
                for part, size in shard.told.bytes_of.items():
                    sizes.add_metric([*labels, part], size)
        yield from (up, info, restarts, sizes)
        told = [(labels, shard.told) for labels, shard in shards if shard.alive and shard.told is not None]
        yield from _families(GaugeMetricFamily, _GAUGES, told)
        yield from _families(CounterMetricFamily, _COUNTERS, told)


def _families(kind: Any, which: dict[str, Any], told: list[tuple[list[str], Told]]) -> Iterator[Metric]:
    for name, (about, value) in which.items():
        family = kind(f"hotrow_shard_{name}", about, labels=_LABELS)
        for labels, one in told:
            number = value(one)
            if number is not None:
                family.add_metric(labels, number)
        yield family


def _where(shard: ShardStatus) -> list[str]:
    return ["" if one is None else str(one) for one in (shard.node, shard.address, shard.pid)]


def _what(shard: ShardStatus) -> list[str]:
    told = shard.told
    return ["", "", ""] if told is None else [str(told.dim), told.ids or "", str(told.optimizer.get("name", ""))]


def shards_text(tables: Sequence[TableStatus]) -> str:
    """Tables in Prometheus' text format.

    >>> print(shards_text([]).splitlines()[2])
    hotrow_cluster_tables 0.0
    """
    registry = CollectorRegistry()
    registry.register(Shards(lambda: tables))
    return generate_latest(registry).decode("utf-8")


def shards_app(look: Look, *, token: str | None = None, hosts: Sequence[str] = ()) -> AtDesk:
    """An application that looks at a cluster whenever /metrics is asked for, and also tells of its own requests.

    look   what gives the tables: a `Watcher`'s
    token  what `Authorization: Bearer …` must say; None: anybody may ask who reaches it
    hosts  what `Host` may say, if there is no token
    """
    limits, measures = Limits(connections=32), Requests(Shards(look))

    def metrics(_: Call) -> Callable[[], Answer]:
        return lambda: Answer(measures.text(), type=b"text/plain; version=0.0.4; charset=utf-8")

    @asynccontextmanager
    async def lifespan(_: Starlette) -> AsyncGenerator[None]:
        yield
        app.desk.hands.close()

    app = AtDesk(lifespan=lifespan, exception_handlers={404: _nothing})
    text = {"type": "string"}
    asked = Endpoint("GET", "/metrics", metrics, "Tables and shards, for Prometheus", Fields.of(), text,
                     gives=(b"text/plain",))  # fmt: skip
    app.set_desk([asked], limits, measures, token=token, hosts=hosts)
    return app


def _nothing(_: Request, __: Exception) -> Response:
    answer = refusal(404, "nothing is here; /metrics is for Prometheus")
    return Response(answer.body, 404, media_type="application/json")
