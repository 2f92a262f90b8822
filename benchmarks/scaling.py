"""Promise two: the cost follows the batch. The same step on small and on large tables of hotrow's own."""

from __future__ import annotations

import gc
import logging
from collections.abc import Iterator
from dataclasses import replace

import numpy as np

from benchmarks import harness, machine, workload
from benchmarks.harness import Result
from benchmarks.peers import Hotrow
from benchmarks.workload import Sizes, Workload

log = logging.getLogger("benchmarks")

DIM = 16
MOST = 1.5
"""How many times as long a step on the largest table may take, for the same batch."""


def run(sizes: Sizes) -> Iterator[Result]:
    """Narrow vectors, of which the most rows fit; Adam."""
    works = [Workload(rows, DIM, "adam") for rows in (sizes.fewest, sizes.rows, sizes.most)]
    while not machine.fits(sum(work.nbytes for work in works), f"scaling to {works[-1].rows:,} rows"):
        if works[-1].rows < 2 * sizes.rows:
            return
        works[-1] = replace(works[-1], rows=works[-1].rows // 2)
    log.info("scaling")
    yield from _measure(sizes, {f"{work.rows:,} rows": _table(work, sizes.threads) for work in works})
    gc.collect()  # the tables, before the next benchmark


def _table(work: Workload, threads: int) -> Hotrow:
    """Ids arrive in random order, so that a batch's rows lie all over the table, however large it is."""
    return Hotrow(work, threads, np.random.default_rng(5).permutation(work.rows))


def _measure(sizes: Sizes, tables: dict[str, Hotrow]) -> Iterator[Result]:
    gradients = workload.gradients(sizes.batch, DIM)
    largest = list(tables)[-1]
    for kind in ("zipf, the same batch", "zipf over all rows", "uniform over all rows"):
        sides = {}
        for name, table in tables.items():
            rows = sizes.fewest if "same" in kind else len(table.table)
            batches = workload.batches(kind.split(maxsplit=1)[0].strip(","), rows, sizes.batch)
            sides[name] = harness.steps_of([table], batches, gradients).popitem()[1]
        yield from harness.results(
            f"hotrow's own step by the size of the table, Adam, {sizes.batch:,} raw ids",
            {"D": DIM, "ids": kind},
            harness.race(sides, sizes.rounds, sizes.steps),
            most={largest: MOST} if "same" in kind and not sizes.quick else None,
        )
