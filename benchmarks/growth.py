"""Promise: growth never makes anyone wait. Every call of a table that grows from nothing to very many rows.

In a process of its own, so that nothing else that was loaded collects its garbage meanwhile:
python -m benchmarks.growth '{"rows": 50000000, "batch": 40000, "threads": 2}'
"""

from __future__ import annotations

import json
import logging
import sys
import time
from collections.abc import Iterator
from dataclasses import replace

import numpy as np

import hotrow
from benchmarks import harness, machine
from benchmarks.harness import Result
from benchmarks.workload import Sizes, Workload, raw_ids

log = logging.getLogger("benchmarks")

DIM = 8
MOST = 10.0
"""How many times as long as the median call the longest may take."""
_RUNS = 3
"""At most. A call is judged by its fastest run: a pause of the table's own comes at the same call in each of them, and
what else ran on the machine does not."""


def run(sizes: Sizes) -> Iterator[Result]:
    """find(grow=True) of new ids alone, Adam's slots and all."""
    work = Workload(sizes.most, DIM, "adam")
    while not machine.fits(work.nbytes, f"growth to {work.rows:,} rows") and work.rows > sizes.rows:
        work = replace(work, rows=work.rows // 2)
    log.info("growth")
    case = {"rows": work.rows, "batch": sizes.batch, "threads": sizes.threads}
    runs = np.array([harness.in_a_child(__name__, case) for _ in range(min(sizes.rounds, _RUNS))])
    calls = runs.min(axis=0)
    median, longest = float(np.median(calls)), float(calls.max())
    shown = {
        "D": DIM,
        "ids a call": f"{sizes.batch:,}",
        "calls": f"{len(calls):,}",
        "rows before the longest": f"{int(calls.argmax()) * sizes.batch:,}",
    }
    title = f"A call of find(grow=True) with new ids, growing from 0 to {work.rows:,} rows"
    hundredths = np.quantile(runs, 0.99, axis=1).tolist()
    most = None if sizes.quick else MOST
    yield Result(title, shown, "median call", "ms", median, np.median(runs, axis=1).tolist())
    yield Result(title, shown, "99 of 100 calls, at most", "ms", float(np.quantile(calls, 0.99)), hundredths)
    yield Result(title, shown, "longest call", "ms", longest, runs.max(axis=1).tolist(), longest / median, most=most)


def grow(rows: int, batch: int, threads: int) -> list[float]:
    """The milliseconds of each call, in order."""
    hotrow.set_threads(threads)
    ids = raw_ids(rows)
    hotrow.Table(DIM, ids="int64").find(ids[:batch], grow=True)  # compiles
    table, taken = hotrow.Table(DIM, ids="int64"), []
    for start in range(0, rows, batch):
        chunk = ids[start : start + batch]
        begin = time.perf_counter()
        table.find(chunk, grow=True)
        taken.append(1e3 * (time.perf_counter() - begin))
    if len(table) != rows:
        raise harness.UnequalError(f"{rows:,} ids went in, and {len(table):,} rows are there")
    return taken


if __name__ == "__main__":
    print(json.dumps(grow(**json.loads(sys.argv[1]))))
