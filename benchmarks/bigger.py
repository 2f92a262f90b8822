"""A table larger than the memory it may use: rows in a file, in a control group with a third of what they take.

python -m benchmarks.bigger '{"rows": 2000000, "dim": 64, "batch": 40000, "threads": 2, "path": "/var/tmp"}'

Rows lie in random order, so that frequent ids are strewn over all pages of the file: the worst case. In memory and in a
file with memory to spare take turns in one process; the group has a process of its own.
"""

from __future__ import annotations

import json
import logging
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

import hotrow
from benchmarks import cgroup, harness
from benchmarks.harness import Result, Side
from benchmarks.workload import STREAMS, Sizes, batches, gradients, raw_ids

log = logging.getLogger("benchmarks")

ROOT = Path(__file__).parents[1]
PLACE = ROOT / "build" / "bigger"
LIMIT = 512 << 20
TIMES = 3
"""How many times the limit the rows take."""
ROUNDS, STEPS = 3, 10
"""In the group, where a step waits for the disk."""


def run(sizes: Sizes) -> Iterator[Result]:
    """In memory beside a file with memory to spare, and a file with a third of it."""
    dim = max(sizes.dims)
    rows = sizes.rows if sizes.quick else TIMES * LIMIT // (4 * 3 * dim)
    size = f"{rows:,} rows of {4 * 3 * dim} bytes, {rows * 12 * dim / 2**30:.1f} GiB, Adam"
    title = f"A training step of {sizes.batch:,} raw ids, {size}"
    inside = _inside({"rows": rows, "dim": dim, "batch": sizes.batch, "threads": sizes.threads, "path": str(PLACE)})
    tables = {name: _table(rows, dim, sizes.batch, path) for name, path in (("in memory", None), ("path=", str(PLACE)))}
    drawn = _drawn(rows, sizes.batch)
    for stream in STREAMS:
        sides = {name: _side(table, drawn[stream]) for name, table in tables.items()}
        found = list(harness.results(title, {"ids": stream}, harness.race(sides, sizes.rounds, sizes.steps)))
        yield from found
        if inside:
            best = min(inside[stream])
            side = f"path=, in {LIMIT >> 20} MiB"
            yield replace(found[0], side=side, best=best, rounds=inside[stream], ratio=best / found[0].best)
    if inside:
        for which in ("peak of the group", "of the process alone", "of files"):
            yield Result(f"Memory in a group of {LIMIT >> 20} MiB, {size}", {"which": which}, "MiB", "", inside[which])


def _inside(case: dict[str, Any]) -> dict[str, Any] | None:
    """What `train` finds in a process of its own, in a group with a limit."""
    with cgroup.limited(LIMIT) as group:
        if group is None:
            log.warning("bigger: no control group with a limit can be made here; as root it can")
            return None
        log.info("bigger: in a group of %d MiB", LIMIT >> 20)
        command = group.inside([sys.executable, "-m", __name__, json.dumps(case)])
        done = subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, check=True)
        return json.loads(done.stdout) | {"peak of the group": group.peak() / 2**20}


def train(rows: int, dim: int, batch: int, threads: int, path: str | None = None) -> dict[str, Any]:
    """Grow a table to `rows` rows and train it: the milliseconds of each round's median step, and what is resident."""
    hotrow.set_threads(threads)
    table, drawn = _table(rows, dim, batch, path), _drawn(rows, batch)
    found = {
        stream: harness.race({"": _side(table, drawn[stream])}, ROUNDS, STEPS, warm=0).popitem()[1]
        for stream in STREAMS
    }
    return found | {"of the process alone": _resident("RssAnon"), "of files": _resident("RssFile")}


def _table(rows: int, dim: int, batch: int, path: str | None) -> hotrow.Table:
    table = hotrow.Table(dim, path=path)
    for ids in np.array_split(np.random.default_rng(5).permutation(raw_ids(rows)), -(-rows // batch)):
        table.find(ids, grow=True)
    return table


def _drawn(rows: int, batch: int) -> dict[str, list[np.ndarray]]:
    ids = raw_ids(rows)
    return {stream: [ids[numbers] for numbers in batches(stream, rows, batch)] for stream in STREAMS}


def _side(table: hotrow.Table, drawn: list[np.ndarray]) -> Side:
    back = gradients(len(drawn[0]), table.dim)

    def step(i: int) -> None:
        batch = table.find(drawn[i % len(drawn)])
        table.lookup(batch)
        table.update(batch, back)

    return step


def _resident(which: str) -> float:
    """MiB of anonymous memory, or of mapped files, that this process holds now."""
    lines = Path("/proc/self/status").read_text("ascii").splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(which)) / 1024


if __name__ == "__main__":
    print(json.dumps(train(**json.loads(sys.argv[1]))))
