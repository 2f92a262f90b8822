"""A training step against one thing at a time: rows of the table, width of vectors, threads, and how skewed ids are.

hotrow beside torch, where that is installed, and beside a copy of as many bytes as a step must move.
"""

from __future__ import annotations

import gc
import logging
import os
import statistics
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

import hotrow
from benchmarks import harness, machine, workload
from benchmarks.harness import Result
from benchmarks.peers import Hotrow, Peer, Torch, present
from benchmarks.workload import STREAMS, ZIPF, Sizes, Workload
from hotrow.apps.phases import Copy, Traffic, draw

log = logging.getLogger("benchmarks")

DIM, DIMS = 32, (8, 16, 32, 64, 128)
ROWS, COUNTS = 1_000_000, (10_000, 100_000, 1_000_000, 4_000_000, 10_000_000)
"""Rows of the other sweeps, and of the one over rows."""
EXPONENTS = (None, 1.05, 1.1, ZIPF, 1.5, 2.0)
"""Of Zipf's law: the higher, the more often the same ids come. None: uniform ids."""
COPY = "a copy of as many bytes"
_COPIED = 1 << 28  # bytes
_BATCHES, _ROUNDS, _STEPS = 20, 5, 12


@dataclass(frozen=True)
class Point:
    """One place on a chart: its title, where it is, the batches, and on how many threads."""

    title: str
    case: dict[str, Any]
    batches: list[np.ndarray]
    threads: int


def run(sizes: Sizes) -> Iterator[Result]:
    """All sweeps, of Adam."""
    if not sizes.quick:
        sizes = replace(sizes, rounds=min(_ROUNDS, sizes.rounds), steps=_STEPS)
    copy = Copy(1 << 16 if sizes.quick else _COPIED)
    rows, counts, dims = (sizes.rows, (sizes.fewest, sizes.rows), sizes.dims) if sizes.quick else (ROWS, COUNTS, DIMS)
    for count in counts:
        title = f"A training step by rows, Adam, D = {DIM}, {sizes.batch:,}"
        points = [_point(sizes, f"{title} {ids} ids", {"rows": f"{count:,}"}, count, ids) for ids in STREAMS]
        yield from _measure(sizes, copy, Workload(count, DIM, "adam"), points)
    for dim in dims:
        title = f"A training step by width, Adam, {rows:,} rows, {sizes.batch:,}"
        points = [_point(sizes, f"{title} {ids} ids", {"floats a vector": dim}, rows, ids) for ids in STREAMS]
        yield from _measure(sizes, copy, Workload(rows, dim, "adam"), points)
    points = [*_by_skew(sizes, rows), *_by_threads(sizes, rows)]
    yield from _measure(sizes, copy, Workload(rows, DIM, "adam"), points)


def _point(sizes: Sizes, title: str, case: dict[str, Any], rows: int, stream: str) -> Point:
    return Point(title, case, workload.batches(stream, rows, sizes.batch, _BATCHES), sizes.threads)


def _by_skew(sizes: Sizes, rows: int) -> Iterator[Point]:
    title = f"A training step by skew, Adam, D = {DIM}, {rows:,} rows, {sizes.batch:,} ids"
    for exponent in EXPONENTS:
        drawn = list(draw(rows, (_BATCHES, sizes.batch), exponent))
        yield Point(title, {"ids": f"Zipf {exponent:g}" if exponent else "uniform"}, drawn, sizes.threads)


def _by_threads(sizes: Sizes, rows: int) -> Iterator[Point]:
    """1, 2, 4, … threads, as many as there are processors."""
    for stream in STREAMS:
        title = f"A training step by threads, Adam, D = {DIM}, {rows:,} rows, {sizes.batch:,} {stream} ids"
        for threads in [1 << i for i in range((os.cpu_count() or 1).bit_length())]:
            yield replace(_point(sizes, title, {"threads": threads}, rows, stream), threads=threads)


def _measure(sizes: Sizes, copy: Copy, work: Workload, points: list[Point]) -> Iterator[Result]:
    """A race at each point, on the same tables."""
    kinds = present([Hotrow, Torch])
    what = f"sweeps: {work.rows:,} rows, D = {work.dim}"
    if not machine.fits(len(kinds) * work.nbytes, what):
        return
    log.info(what)
    peers = [kind(work, sizes.threads) for kind in kinds]
    gradients = workload.gradients(sizes.batch, work.dim)
    # Only now are all tables at the same step: in a race a slow side takes fewer.
    differences = harness.check_equal(peers, [point.batches[0] for point in points], gradients)
    for point in points:
        _use_threads(peers, point.threads)
        speeds = [copy.speed() for _ in range(3)]
        race = harness.race(harness.steps_of(peers, point.batches, gradients), sizes.rounds, sizes.steps)
        yield from harness.results(point.title, point.case, race, differences=differences)
        speed = max(*speeds, *(copy.speed() for _ in range(3)))
        yield Result(point.title, point.case, COPY, "ms", 1e3 * _least(work, point.batches) / speed)
    del peers
    gc.collect()  # the tables, before the next ones are built


def _use_threads(peers: list[Peer], threads: int) -> None:
    hotrow.set_threads(threads)
    if any(isinstance(peer, Torch) for peer in peers):
        import torch

        torch.set_num_threads(threads)


def _least(work: Workload, batches: list[np.ndarray]) -> int:
    """Bytes that a step of Adam must move."""
    distinct = round(statistics.fmean(len(np.unique(rows)) for rows in batches))
    return Traffic.of(ids=len(batches[0]), distinct=distinct, dim=work.dim, slots=2 * work.dim).total
