"""Resident bytes a row, after the last step of a table that grew by training; in a process of its own.

python -m benchmarks.memory '{"dim": 16, "optimizer": "adam", "rows": 4000000, "batch": 40000, "threads": 2}'
"""

from __future__ import annotations

import gc
import json
import logging
import os
import subprocess
import sys
from collections.abc import Iterator
from itertools import product
from pathlib import Path

import numpy as np

import hotrow
from benchmarks import harness
from benchmarks.harness import Result
from benchmarks.workload import Sizes, raw_ids

log = logging.getLogger("benchmarks")

OPTIMIZERS = {"Adam": lambda dim: 2 * dim, "RowwiseAdagrad": lambda dim: 1}
"""Name → slots(D), written down here once more, so that the table can't excuse itself."""
OVERHEAD = 24
"""Bytes a row that the index, the keys and all else may take: the mean of fills from a half to the whole."""


def run(sizes: Sizes) -> Iterator[Result]:
    """Adam and row-wise Adagrad, the narrowest and the widest vectors."""
    for optimizer, dim in product(OPTIMIZERS, sorted({min(sizes.dims), max(sizes.dims)})):
        log.info("memory: %s, D = %d", optimizer, dim)
        case = {"dim": dim, "optimizer": optimizer, "rows": sizes.rows, "batch": sizes.batch, "threads": sizes.threads}
        fills = harness.in_a_child(__name__, case)
        payload = 4 * (dim + OPTIMIZERS[optimizer](dim))
        title = f"Resident bytes a row, int64 ids, grown {sizes.batch:,} ids a step"
        shown = {"optimizer": optimizer, "D": dim, "vector + slots": payload}
        most = None if sizes.quick else payload + OVERHEAD
        yield Result(title, shown, f"at {sizes.rows:,} rows", "B", fills[-1])
        yield Result(title, shown, "mean, half full to full", "B", float(np.mean(fills)), fills, most=most)
        yield Result(title, shown, "allowed", "B", payload + OVERHEAD)


def grow(dim: int, optimizer: str, rows: int, batch: int, threads: int) -> list[float]:
    """Train a table from nothing to `rows` rows; its resident bytes a row at fills from a half to the whole."""
    hotrow.set_threads(threads)
    ids, gradients = raw_ids(rows + batch), np.ones((batch, dim), np.float32)
    _train(hotrow.Table(dim, optimizer=getattr(hotrow, optimizer)(0.01)), ids[rows:], gradients)  # compiles
    before = resident()
    table = hotrow.Table(dim, optimizer=getattr(hotrow, optimizer)(0.01))
    fills, marks = [], [rows * part // 8 for part in range(4, 9)]
    for start in range(0, rows, batch):
        _train(table, ids[start : min(start + batch, rows)], gradients)
        if len(table) >= marks[len(fills)]:
            fills.append((resident() - before) / len(table))
    return fills


def _train(table: hotrow.Table, ids: np.ndarray, gradients: np.ndarray) -> None:
    batch = table.find(ids, grow=True)
    table.lookup(batch)
    table.update(batch, gradients[: len(ids)])


def resident() -> int:
    """Bytes of memory that this process holds now."""
    gc.collect()
    try:
        return int(Path("/proc/self/statm").read_text("ascii").split()[1]) * os.sysconf("SC_PAGESIZE")
    except OSError:  # no Linux
        command = ["ps", "-o", "rss=", "-p", str(os.getpid())]
        return 1024 * int(subprocess.run(command, capture_output=True, check=True).stdout)


if __name__ == "__main__":
    print(json.dumps(grow(**json.loads(sys.argv[1]))))
