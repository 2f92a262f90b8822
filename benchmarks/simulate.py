"""The simulator of docs/scale.md beside the real thing: steps on 1, 2 and 4 shards here, and how far off it is.

python -m benchmarks.simulate      # measures the costs anew, into src/hotrow/cluster/planning/measured.json
"""

from __future__ import annotations

import gc
import json
import logging
import os
from collections.abc import Iterator
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np

import hotrow
from benchmarks import harness, protocols, workload
from benchmarks.cluster import DIM, ROWS, Sharded, ray_here
from benchmarks.harness import Result
from benchmarks.workload import STREAMS, Sizes, Workload
from hotrow.cluster.planning.costs import Costs, distinct, exponent
from hotrow.cluster.planning.plan import Bytes
from hotrow.cluster.planning.simulation import Machine, Setup, simulate

log = logging.getLogger("benchmarks")

SHARDS = (1, 2, 4)
BESIDE = f"A step on shards of this machine, simulated and real, Adam, D = {DIM}, 40,000 ids"
_COUNTED = 40  # steps
SKEW = 0.6
"""An exponent that real ids have, see below."""
MANY, BATCHES = (1, 4, 16, 64, 256, 1024), (40_000, 400_000, 4_000_000)
COLUMNS = {"gowalla": "train.txt", "beauty": "Beauty.txt"}
"""Real ids: lines of a user and the items that belong to it."""
FITTED, CHECKED = 4_000, (1_000, 40_000)
"""Ids of the batches whose distinct ids say which exponent, and of those where it is tried."""


def run(sizes: Sizes) -> Iterator[Result]:
    """Bytes, simulated rates and the skew of real ids; then simulated steps and real ones."""
    yield from _bytes()
    yield from _rates(quick=sizes.quick)
    yield from _skew()
    work = Workload(sizes.rows if sizes.quick else ROWS, DIM, "adam")
    with ray_here():
        costs = measured(quick=sizes.quick)
        for shards in SHARDS:
            yield from _beside(sizes, work, costs, shards)
            gc.collect()


def measured(*, quick: bool = False) -> Costs:
    """The costs of this machine, with Python's."""
    from hotrow.cluster.planning.measured import MEASURED
    from hotrow.cluster.planning.measuring import measure
    from hotrow.cluster.planning.overheads import overheads

    return MEASURED if quick else overheads(measure())


def _bytes() -> Iterator[Result]:
    """What a row takes in memory of a shard with 4 million of them."""
    kinds = {"SGD": hotrow.SGD(), "row-wise Adagrad": hotrow.RowwiseAdagrad(), "Adam": hotrow.Adam()}
    for name, optimizer in kinds.items():
        for dim in (16, 32, 64, 128):
            row = asdict(Bytes.of(4_000_000, dim, optimizer.slots(dim)))
            for part, value in row.items():
                if part != "strings":
                    yield Result(
                        "Bytes a row in a shard's memory, integer ids", {"": f"{name}, D = {dim}"}, part, "B", value
                    )


def _rates(*, quick: bool) -> Iterator[Result]:
    """Ids a second by shards, each on a machine of 16 cores with 10 Gbit/s: simulated."""
    from hotrow.cluster.planning.measured import MEASURED

    for shards in MANY[:2] if quick else MANY:
        for batch in BATCHES:
            setup = Setup(
                batch=batch, rows=10**10, zipf=SKEW, dim=DIM, slots=2 * DIM, shards=shards, shard_threads=8, threads=8
            )
            title = f"Simulated ids by shards, Adam, D = {DIM}, 10 billion rows, Zipf {SKEW:g}"
            told = simulate(setup, MEASURED, steps=12)
            yield Result(
                title, {"shards": f"{shards:,}"}, f"batches of {batch:,}", "million/s", told.ids_per_second / 1e6
            )


def _beside(sizes: Sizes, work: Workload, costs: Costs, shards: int) -> Iterator[Result]:
    log.info("simulate: %d shards", shards)
    peer = type("Some", (Sharded,), {"shards": shards})(work, sizes.threads)
    gradients = workload.gradients(sizes.batch, work.dim)
    try:
        for stream in STREAMS:
            batches = workload.batches(stream, work.rows, sizes.batch)
            ids = [peer.ids(rows) for rows in batches]
            if not sizes.quick:
                peer.settle(ids, gradients)
            steps = harness.steps_of([peer], batches, gradients)
            real = min(harness.race(steps, sizes.rounds, sizes.steps).popitem()[1])
            unique = float(np.mean([len(np.unique(rows)) for rows in batches]))
            cores = Machine(cores=os.cpu_count() or 1)
            setup = Setup(
                batch=sizes.batch, rows=work.rows, unique=unique, dim=work.dim, slots=2 * work.dim, shards=shards,
                owner=cores, together=True, threads=sizes.threads,
            )  # fmt: skip
            told = simulate(setup, costs)
            case = {"ids": stream, "shards": shards}
            said = 1e3 * told.seconds
            yield Result(BESIDE, case, "real", "ms", real)
            yield Result(BESIDE, case, "simulated", "ms", said, ratio=said / real)
            used, worked = 1e3 * _processors(peer, ids, gradients), said * told.busy["the owner's cores"] * cores.cores
            yield Result(BESIDE, case, "processors, real", "ms", used)
            yield Result(BESIDE, case, "processors, simulated", "ms", worked, ratio=worked / used)
    finally:
        peer.table.close()


def _processors(peer: Sharded, ids: list[np.ndarray], gradients: np.ndarray) -> float:
    """Seconds of all processors for a step, whatever else runs here."""
    before = peer.processors()
    for i in range(_COUNTED):
        peer.step(ids[i % len(ids)], gradients)
    peer.table.flush()
    return (peer.processors() - before) / _COUNTED


# --- how skewed real ids are -----------------------------------------------------------------------------------------


def _skew() -> Iterator[Result]:
    """Of each column the exponent by which batches have as many distinct ids, and what it says of other batches."""
    for name, ids in _columns():
        rows = len(np.unique(ids))
        title = "Distinct ids of a batch of real ids, and by Zipf's law with the exponent that fits batches of 4,000"
        zipf = exponent(FITTED, rows, _distinct(ids, FITTED))
        for n in CHECKED:
            if n > len(ids):
                continue
            seen, said = _distinct(ids, n), distinct(n, rows, zipf)
            case = {"column": name, "ids": f"{rows:,}", "exponent": f"{zipf:.2f}", "batch": f"{n:,}"}
            yield Result(title, case, "real", "", seen)
            yield Result(title, case, "Zipf's law", "", said, ratio=said / seen)


def _distinct(ids: np.ndarray, n: int) -> float:
    """How many distinct ids a batch of n has on average, drawn from these."""
    rng = np.random.default_rng(0)
    return float(np.mean([len(np.unique(rng.choice(ids, n, replace=False))) for _ in range(20)]))


def _columns() -> Iterator[tuple[str, np.ndarray]]:
    for name, file in COLUMNS.items():
        path = protocols.FOLDER / name / file
        if not path.exists():
            log.warning("simulate: the skew of %s is left out: no %s in HOTROW_DATA", name, file)
            continue
        lines = [np.array(line.split(), np.int64) for line in path.read_text("utf-8").splitlines() if line]
        yield f"{name}, items", np.concatenate([line[1:] for line in lines])
        yield f"{name}, users", np.concatenate([np.full(len(line) - 1, line[0]) for line in lines])


def keep(costs: Costs, path: Path) -> None:
    """Write costs where `hotrow cluster plan` finds them, four digits of each."""

    def short(value: object) -> object:
        if isinstance(value, dict):
            return {name: short(one) for name, one in value.items()}
        if isinstance(value, tuple | list):
            return [short(one) for one in value]
        return float(f"{value:.4g}") if isinstance(value, float) else value

    path.write_text(json.dumps(short(asdict(costs)), indent=1) + "\n", "utf-8")


if __name__ == "__main__":
    from hotrow.cluster.planning.measured import FILE

    with ray_here():
        keep(replace(measured()), FILE)
