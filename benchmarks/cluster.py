"""The same table on shards: steps on two beside the single process, where a step goes, and pulls beside Ray's own.

All on this machine, whose cores the shards and their owner share. Both sides must compute the same bits before they are
timed. Pulls are beside bare Ray actors that do nothing but return a ready array, as large as a shard's part.
"""

from __future__ import annotations

import gc
import logging
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, ClassVar, Self

import numpy as np

import hotrow
from benchmarks import harness, workload
from benchmarks.harness import Result
from benchmarks.peers import Hotrow
from benchmarks.workload import EPSILON, RATES, STREAMS, Sizes, Workload
from hotrow.cluster.planning.overheads import processor

log = logging.getLogger("benchmarks")

ROWS, DIM, SHARDS = 1_000_000, 32, 2
SLOWER = 1 / 0.6
"""How many times as long as in the single process a step on two shards may take."""
PULLED = 2.0
"""How many times as long as bare Ray actors a pull may take."""
_SETTLED = 3_000  # steps at most, until shards have written what they were sent: only then is its memory used again
EXPLAINED = (
    "Dedupe: which ids are the same. Split: which shard each is on. Ask: a request to each. Wait: for the answers. "
    "Put together: what came, and numbers. Fill: a vector for each id. Merge: the sum of each id's gradients. Push: a "
    "change to each shard, kept until that is on its disk; nobody waits for it, and the shards step beside the next "
    "batch. Python: all between these. A shard's time is that of its thread, at both requests."
)


@contextmanager
def ray_here() -> Iterator[Any]:
    """A Ray of its own, on this machine."""
    import ray

    from hotrow import cluster

    cluster.connect()
    try:
        yield ray
    finally:
        ray.shutdown()


class Sharded(Hotrow):
    """A hotrow.cluster.Table on two shards."""

    name, given = "two shards", "raw ids"
    shards: ClassVar[int] = SHARDS

    def __init__(self, work: Workload, threads: int) -> None:
        from hotrow import cluster

        hotrow.set_threads(threads)
        self._ids = work.ids
        optimizer = getattr(hotrow, self.optimizers[work.optimizer])(RATES[work.optimizer], epsilon=EPSILON)
        self.table = cluster.Table(work.dim, shards=self.shards, optimizer=optimizer, ids="int64")
        for rows, weights in work.weights():
            self.table.set(self._ids[rows], weights)

    def settle(self, ids: list[np.ndarray], gradients: np.ndarray) -> None:
        """Take steps until it is as in a long training: what is kept for shards lies in memory that was used before."""
        links = self.table.shards_.links
        before = [link.durable for link in links]
        for i in range(_SETTLED):
            self.step(ids[i % len(ids)], gradients)
            if all(link.durable > since for link, since in zip(links, before, strict=True)):
                break

    def processors(self) -> float:
        """Seconds of all processors that this process and the shards' have had."""
        return time.process_time() + sum(processor(one["pid"]) for one in self.table.shards_.call("facts"))


def run(sizes: Sizes) -> Iterator[Result]:
    """Steps, their parts, pulls."""
    work = Workload(sizes.rows if sizes.quick else ROWS, DIM, "adam")
    with ray_here() as ray:
        single, sharded = Hotrow(work, sizes.threads), Sharded(work, sizes.threads)
        try:
            yield from _steps(sizes, work, single, sharded)
            yield Result(EXPLAINED, {}, "", "", 0)
            yield from _parts(sizes, work, sharded)
            yield from _pulls(sizes, work, sharded, ray)
        finally:
            sharded.table.close()
            del single, sharded
            gc.collect()


def _steps(sizes: Sizes, work: Workload, single: Hotrow, sharded: Sharded) -> Iterator[Result]:
    gradients = workload.gradients(sizes.batch, work.dim)
    batches = {stream: workload.batches(stream, work.rows, sizes.batch) for stream in STREAMS}
    peers = [single, sharded]
    alike = [rows for stream in STREAMS for rows in batches[stream][:2]]
    differences = harness.check_equal(peers, alike, gradients, tolerance=0.0)
    for stream in STREAMS:
        log.info("cluster: steps, %s", stream)
        if not sizes.quick:
            sharded.settle([sharded.ids(rows) for rows in batches[stream]], gradients)
        sides = harness.steps_of(peers, batches[stream], gradients)
        yield from harness.results(
            f"Training step, Adam, D = {work.dim}, {work.rows:,} rows, {sizes.batch:,} ids",
            {"ids": stream},
            harness.race(sides, sizes.rounds, sizes.steps),
            most=None if sizes.quick else {harness.label(sharded): SLOWER},
            differences=differences,
        )


# --- where a step goes -----------------------------------------------------------------------------------------------


class Clock:
    """Within, calls of some methods are timed: each without what it calls of the others. Of this thread alone."""

    def __init__(self, parts: dict[str, list[tuple[Any, str]]]) -> None:
        self.taken = dict.fromkeys(parts, 0.0)
        self._parts, self._before, self._inner = parts, list[tuple[Any, str, Any]](), [0.0]

    def __enter__(self) -> Self:
        for part, methods in self._parts.items():
            for owner, name in methods:
                before = owner.__dict__[name]
                self._before.append((owner, name, before))
                if isinstance(before, classmethod):
                    setattr(owner, name, staticmethod(self._timed(part, getattr(owner, name))))
                else:
                    setattr(owner, name, self._timed(part, before))
        return self

    def __exit__(self, *_: object) -> None:
        for owner, name, before in reversed(self._before):
            setattr(owner, name, before)

    def _timed(self, part: str, method: Callable[..., Any]) -> Callable[..., Any]:
        def timed(*given: Any, **named: Any) -> Any:
            self._inner.append(0.0)
            begin = time.perf_counter()
            try:
                return method(*given, **named)
            finally:
                whole = time.perf_counter() - begin
                self.taken[part] += whole - self._inner.pop()
                self._inner[-1] += whole

        return timed


def stages() -> dict[str, list[tuple[Any, str]]]:
    """The parts of a step, and whose methods each is."""
    from hotrow.cluster.asking import Asking
    from hotrow.cluster.link import Link
    from hotrow.cluster.own_link import OwnLink
    from hotrow.cluster.own_shards import OwnShards
    from hotrow.cluster.shards import Shards, Spread
    from hotrow.table.batch import Distinct, Groups

    return {
        "dedupe": [(Distinct, "of")],
        "split": [(Spread, "of")],
        "ask": [(Link, "ask")],
        "wait": [(Link, "wait")],
        "put together": [(Shards, "pull")],
        "fill": [(Asking, "_fill")],
        "merge": [(Groups, "of"), (Groups, "merge")],
        "push": [(OwnLink, "ready"), (OwnLink, "plan"), (OwnLink, "make"), (OwnShards, "step"), (OwnShards, "make")],
    }


def _parts(sizes: Sizes, work: Workload, sharded: Sharded) -> Iterator[Result]:
    gradients = workload.gradients(sizes.batch, work.dim)
    for stream in STREAMS:
        log.info("cluster: parts, %s", stream)
        ids = [sharded.ids(rows) for rows in workload.batches(stream, work.rows, sizes.batch)]
        best: dict[str, float] = {}
        for _ in range(sizes.rounds):
            taken = _round(sharded, ids, gradients, sizes.steps)
            if not best or taken["a step"] < best["a step"]:
                best = taken
        for part, seconds in best.items():
            title = f"Where a step on two shards goes, Adam, D = {work.dim}, {sizes.batch:,} ids"
            yield Result(title, {"ids": stream}, part, "ms", 1e3 * seconds)


def _round(sharded: Sharded, ids: list[np.ndarray], gradients: np.ndarray, steps: int) -> dict[str, float]:
    """Seconds of a step, of each of its parts, and of a shard."""
    for i in range(3):
        sharded.step(ids[i], gradients)
    sharded.table.flush()
    before = _busy(sharded)
    with Clock(stages()) as clock:
        begin = time.perf_counter()
        for i in range(steps):
            sharded.step(ids[i % len(ids)], gradients)
        whole = (time.perf_counter() - begin) / steps
    sharded.table.flush()
    parts = {part: seconds / steps for part, seconds in clock.taken.items()}
    shard = (_busy(sharded) - before) / steps / SHARDS
    return {"a step": whole, **parts, "Python": whole - sum(parts.values()), "meanwhile, each shard": shard}


def _busy(sharded: Sharded) -> float:
    return sum(one["seconds_busy"] for one in sharded.table.shards_.call("facts"))


# --- pulls -----------------------------------------------------------------------------------------------------------


def _pulls(sizes: Sizes, work: Workload, sharded: Sharded, ray: Any) -> Iterator[Result]:
    log.info("cluster: pulls")

    class Ready:
        """An actor with an array."""

        def __init__(self, rows: int, dim: int) -> None:
            self.array = np.ones((rows, dim), np.float32)

        def get(self) -> np.ndarray:
            return self.array

    size = min(sizes.batch, work.rows // 2)
    ids = [sharded.ids(np.random.default_rng(i).permutation(work.rows)[:size]) for i in range(20)]
    actors = [ray.remote(Ready).options(num_cpus=0).remote(size // SHARDS, work.dim) for _ in range(SHARDS)]
    title = f"A pull of {size:,} distinct vectors from two shards, D = {work.dim}"

    def bare(_: int) -> None:
        ray.get([actor.get.remote() for actor in actors])

    def pull(i: int) -> None:
        sharded.lookup(ids[i % len(ids)])

    names = "bare Ray actors, ready arrays", "hotrow, raw ids"
    race = harness.race(dict(zip(names, (bare, pull), strict=True)), sizes.rounds, sizes.steps)
    most = None if sizes.quick else {names[1]: PULLED}
    yield from harness.results(title, {"MB": f"{4 * size * work.dim / 1e6:.1f}"}, race, most=most)
    for actor in actors:
        ray.kill(actor)
