"""A table larger than the memory it may use: rows in a file, in a control group with a third of what they take.

python -m benchmarks.bigger '{"rows": 2000000, "dim": 64, "batch": 40000, "threads": 2, "path": "/var/tmp"}'

Rows lie in random order, so that frequent ids are strewn over all pages of the file: the worst case. Each side is a
process of its own, one after the other, so small differences between them mean nothing.
"""

from __future__ import annotations

import json
import logging
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

import hotrow
from benchmarks import cgroup
from benchmarks.harness import Result
from benchmarks.workload import STREAMS, Sizes, batches, gradients, raw_ids

log = logging.getLogger("benchmarks")

ROOT = Path(__file__).parents[1]
PLACE = ROOT / "build" / "bigger"
LIMIT = 512 << 20
TIMES = 3
"""How many times the limit the rows take."""


def run(sizes: Sizes) -> Iterator[Result]:
    """In memory, in a file with memory to spare, and in a file with a third of it."""
    dim, limit = max(sizes.dims), LIMIT
    rows = sizes.rows if sizes.quick else TIMES * limit // (4 * 3 * dim)
    case = {"rows": rows, "dim": dim, "batch": sizes.batch, "threads": sizes.threads}
    sides = {"in memory": _child(case), "path=, memory to spare": _child({**case, "path": str(PLACE)})}
    with cgroup.limited(limit) as group:
        if group is None:
            log.warning("bigger: no control group with a limit can be made here (as root it can): only resident sets")
        else:
            sides[f"path=, in {limit >> 20} MiB"] = _child({**case, "path": str(PLACE)}, group)
    size = f"{rows:,} rows of {4 * 3 * dim} bytes, {rows * 12 * dim / 2**30:.1f} GiB, Adam"
    for stream in STREAMS:
        best = {side: min(found[stream]) for side, found in sides.items()}
        for side, found in sides.items():
            ratio = None if side == "in memory" else best[side] / best["in memory"]
            yield Result(
                f"A training step of {sizes.batch:,} raw ids, {size}",
                {"ids": stream},
                side,
                "ms",
                best[side],
                found[stream],
                ratio,
            )
    for what in ("of the process alone", "of files", "peak of the group"):
        for side, found in sides.items():
            if what in found:
                yield Result(f"Memory after it, {size}", {"which": what}, side, "MiB", found[what])


def _child(case: dict[str, Any], group: cgroup.Group | None = None) -> dict[str, Any]:
    log.info("bigger: %s", "in a group" if group else case.get("path", "in memory"))
    command = [sys.executable, "-m", __name__, json.dumps(case)]
    command = group.inside(command) if group else command
    done = subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, check=True)
    return json.loads(done.stdout) | ({"peak of the group": group.peak() / 2**20} if group else {})


def train(rows: int, dim: int, batch: int, threads: int, path: str | None = None) -> dict[str, list[float] | float]:
    """Grow a table to `rows` rows and train it: the milliseconds of each round's median step, and what is resident."""
    hotrow.set_threads(threads)
    table, ids, back = hotrow.Table(dim, path=path), raw_ids(rows), gradients(batch, dim)
    shuffled = np.random.default_rng(5).permutation(ids)
    for start in range(0, rows, batch):
        table.find(shuffled[start : start + batch], grow=True)
    drawn = {stream: [ids[numbers] for numbers in batches(stream, rows, batch)] for stream in STREAMS}
    found: dict[str, list[float] | float] = {stream: [] for stream in STREAMS}
    for turn in range(3):
        for stream in STREAMS:
            times = [_step(table, drawn[stream][10 * turn + i], back) for i in range(10)]
            found[stream].append(1e3 * statistics.median(times))  # type: ignore[union-attr]
    return found | {"of the process alone": _resident("RssAnon"), "of files": _resident("RssFile")}


def _step(table: hotrow.Table, ids: np.ndarray, back: np.ndarray) -> float:
    begin = time.perf_counter()
    batch = table.find(ids)
    table.lookup(batch)
    table.update(batch, back)
    return time.perf_counter() - begin


def _resident(which: str) -> float:
    """MiB of anonymous memory, or of mapped files, that this process holds now."""
    lines = Path("/proc/self/status").read_text("ascii").splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(which)) / 1024


if __name__ == "__main__":
    print(json.dumps(train(**json.loads(sys.argv[1]))))
