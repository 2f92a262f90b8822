"""New ids into an empty table, until it is full: hotrow's find(grow=True) beside an insertion into TFRA's table.

Of vectors alone, without slots: hotrow is to train them by SGD, and TFRA's slots would come with a first step.

hotrow draws their first vectors too; TFRA is given the same ones, ready-made. TFRA once grows and once is told
beforehand how many there will be, which hotrow never needs to know.
"""

from __future__ import annotations

import gc
import logging
import time
from collections.abc import Iterator
from functools import partial

import numpy as np

import hotrow
from benchmarks import harness, machine, workload
from benchmarks.harness import Result, UnequalError
from benchmarks.peers import present
from benchmarks.tfra import Child, Tfra
from benchmarks.workload import Sizes

log = logging.getLogger("benchmarks")

DIM = 32
OURS, GROWING, TOLD = "hotrow, find(grow=True)", "TFRA 0.8.1, upsert", "TFRA 0.8.1, told the number beforehand"
LEAST = {GROWING: 4.0}
"""How many times as long TFRA must take."""
_ROUNDS = 3
"""At most: each fills a table and is checked."""


def run(sizes: Sizes) -> Iterator[Result]:
    """The whole time, and the longest call."""
    if not machine.fits(sizes.rows * (2 * 4 * DIM + 4 * 3 * DIM + 200), "insert"):
        return
    log.info("insert")
    hotrow.set_threads(sizes.threads)
    ids = workload.raw_ids(sizes.rows)
    vectors = _table().lookup(ids)  # a first value depends on the seed and the id alone
    _ours(ids[: sizes.batch], vectors[: sizes.batch], sizes)  # compiles
    fills = {OURS: partial(_ours, ids, vectors, sizes)}
    if present([Tfra]):
        fills[GROWING] = partial(_theirs, 0, ids, vectors, sizes)
        fills[TOLD] = partial(_theirs, sizes.rows, ids, vectors, sizes)
    longest: dict[str, list[float]] = {name: [] for name in fills}

    def fill(name: str) -> float:
        taken = fills[name]()
        longest[name].append(1e3 * max(taken))
        return sum(taken)

    sides: dict[str, harness.Side] = {name: lambda i, name=name: fill(name) for name in fills}
    totals = harness.race(sides, min(sizes.rounds, _ROUNDS), 1, warm=0)
    case = {"D": DIM, "ids a call": f"{sizes.batch:,}"}
    title = f"From 0 to {sizes.rows:,} rows"
    yield from harness.results(f"{title}, all calls", case, totals, least=None if sizes.quick else LEAST)
    yield from harness.results(f"{title}, the longest call", case, longest)


def _table() -> hotrow.Table:
    return hotrow.Table(DIM, optimizer=hotrow.SGD(0.1), ids="int64")


def _ours(ids: np.ndarray, vectors: np.ndarray, sizes: Sizes) -> list[float]:
    """The seconds of each call."""
    table, taken = _table(), []
    for start in range(0, len(ids), sizes.batch):
        chunk = ids[start : start + sizes.batch]
        begin = time.perf_counter()
        table.find(chunk, grow=True)
        taken.append(time.perf_counter() - begin)
    _check(table.lookup(ids[-sizes.lookups :], unknown="error"), vectors[-sizes.lookups :])
    gc.collect()
    return taken


def _theirs(expected: int, ids: np.ndarray, vectors: np.ndarray, sizes: Sizes) -> list[float]:
    """The same."""
    child, taken = Child(DIM, expected, sizes.threads), []
    for start in range(0, len(ids), sizes.batch):
        chunk = slice(start, start + sizes.batch)
        taken.append(child.insert(ids[chunk], vectors[chunk]))
    _check(child.lookup(child.keep(ids[-sizes.lookups :])), vectors[-sizes.lookups :])
    child.close()
    return taken


def _check(found: np.ndarray, expected: np.ndarray) -> None:
    if not np.array_equal(found, expected):
        raise UnequalError("after the last call, a table's vectors aren't those that were put in")
