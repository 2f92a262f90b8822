"""A training on a Ray cluster, or on none: who reads, where tables are, and who computes, by `--cluster` and the like.

    hotrow train FILE                              one process reads, has the tables, and computes
    hotrow train FILE --cluster ADDRESS            Ray Data reads, shards have the tables, workers compute

What is trained comes back as ordinary tables, so all after it is the same: measuring, saving, every other command.
"""

from __future__ import annotations

import argparse
import os
import secrets
import time
from collections.abc import Callable, Generator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from shutil import rmtree
from typing import Any, TypeVar

from hotrow.apps.clustered_arguments import LOCAL
from hotrow.apps.console import Output
from hotrow.apps.sources import one_by_one
from hotrow.errors import ClusterError
from hotrow.models.gathering import gather

T = TypeVar("T")


class Alone:
    """No cluster: all of it is in this process."""

    def read(self, what: Callable[[Any], T]) -> T:
        """What `what(reading)` makes of sources."""
        return what(one_by_one)

    def tables(self, count: int) -> dict[str, Any]:
        """What a model's constructor is given, which will make so many tables."""
        return {}

    def crew(self) -> dict[str, Any]:
        """What `fit` is given."""
        return {}

    def gather(self, model: Any) -> None:
        """Let what is trained be in this process, in ordinary tables."""

    def rated(self) -> None:
        """What was trained is done: what it did a second is counted."""

    def told(self) -> dict[str, Any]:
        """The part of a report that tells of it."""
        return {}


class Cluster(Alone):
    """Ray, to which this process is connected; see `opened`. ends: closes what was started, however it goes."""

    def __init__(self, options: argparse.Namespace, output: Output, ends: ExitStack) -> None:
        self.shards, self.workers = _sizes(options)
        self.staleness = options.staleness or 0
        self._output, self._ends, self._local = output, ends, options.cluster == LOCAL
        self._check_room(1 if options.next or options.label or options.negatives else 2)  # before a long file is read
        self._home = None if options.home is None else Path(options.home) / f"hotrow-{secrets.token_hex(4)}"
        self._tables: list[Any] = []
        self._crew: Any = None
        self._began = 0.0
        self._rates: dict[str, int] = {}

    def read(self, what: Callable[[Any], T]) -> T:
        from hotrow.apps import read_apart

        counter, began = read_apart.Counter(), time.perf_counter()
        made = read_apart.read(what, counter, at_once=os.cpu_count() if self._local else None)
        self._rates["rows_read"] = round(counter.rows / (time.perf_counter() - began))
        return made

    def tables(self, count: int) -> dict[str, Any]:
        self._check_room(count)
        self._began = time.perf_counter()
        return {"tables": self._table}

    def _table(self, dim: int, **given: Any) -> Any:
        from hotrow import cluster

        home = None if self._home is None else self._home / f"table-{len(self._tables)}"
        if self._home is not None and not self._tables:
            self._ends.callback(rmtree, self._home, ignore_errors=True)
        table = cluster.Table(dim, shards=self.shards, home=home, **given)
        self._ends.callback(table.close)
        self._tables.append(table)
        return table

    def _check_room(self, count: int) -> None:
        """ClusterError if there are fewer CPUs than shards and workers want, who would wait for one another."""
        from hotrow.cluster.connecting import ray_module

        wanted, there = count * self.shards + self.workers, int(ray_module().available_resources().get("CPU", 0))
        if wanted > there:
            more = "" if self._local else ", or add nodes with `ray start --address=…`"
            raise ClusterError(
                f"{count} tables of {self.shards} shards each, and {self.workers} workers, take {wanted} CPUs, and "
                f"{there} are free in the cluster: ask for fewer, with --shards and --workers{more}"
            )

    def crew(self) -> dict[str, Any]:
        from hotrow.cluster.crew import Crew

        with self._output.errors.status("starting workers"):
            self._crew = self._ends.enter_context(Crew(self.workers, staleness=self.staleness))
        self._began = time.perf_counter()
        return {"crew": self._crew}

    def gather(self, model: Any) -> None:
        self.rated()
        with self._output.errors.status("gathering the tables from their shards"):
            gather(model)
        self._ends.close()  # what comes now needs no CPU but this process's

    def rated(self) -> None:
        seconds = time.perf_counter() - self._began
        facts = [one for table in self._tables for one in table.shards_.call("facts")]
        for name in ("rows_pulled", "rows_pushed", "bytes_in", "bytes_out"):
            self._rates[name] = round(sum(one.get(name, 0) for one in facts) / seconds)
        if self._crew is not None:
            self._rates["blocks"] = round(sum(one["blocks"] for one in self._crew.stats()) / seconds)

    def told(self) -> dict[str, Any]:
        """{"cluster": {"shards", "workers", "staleness", "rates": {"rows_read_per_second": …}}}."""
        sizes = {"shards": self.shards, "workers": self.workers, "staleness": self.staleness}
        return {"cluster": sizes | {"rates": {f"{name}_per_second": rate for name, rate in self._rates.items()}}}


ALONE = Alone()


@contextmanager
def opened(options: argparse.Namespace, output: Output) -> Generator[Alone]:
    """Where a training goes on, by its options; what was started for it ends with it, however it ends."""
    if options.cluster is None:
        yield ALONE
        return
    from hotrow import cluster
    from hotrow.cluster.connecting import ray_module

    local, ray = options.cluster == LOCAL, ray_module()
    ours = not ray.is_initialized()
    with output.errors.status("starting a Ray" if local else f"connecting to {options.cluster}"):
        cluster.connect(None if local else options.cluster)
    try:
        with ExitStack() as ends:
            yield Cluster(options, output, ends)
    finally:
        if ours:
            ray.shutdown()


def _sizes(options: argparse.Namespace) -> tuple[int, int]:
    """Shards, and workers: none where this process computes."""
    alone = options.next or options.rating is not None
    classifier = options.label is not None or options.negatives is not None
    return options.shards or (1 if classifier else 2), 0 if alone else options.workers or 2
