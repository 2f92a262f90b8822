"""Where a training step's time goes, beside what memory alone would take: `hotrow bench`, over widths and streams.

A step at D = 64 on Zipf ids must be within twice of the limit, see `hotrow.apps.phases.Traffic`. At 256 ids a step is
mostly Python's, and how much of it is shown, too. Hardware counters are those that `perf stat` counts on this machine.
"""

from __future__ import annotations

import gc
import logging
from collections.abc import Iterator
from itertools import product

import numpy as np

import hotrow
from benchmarks import counters, machine, workload
from benchmarks.harness import Result
from benchmarks.workload import STREAMS, Sizes, Workload
from hotrow.apps import phases
from hotrow.apps.phases import PHASES, Copy, Measured, Split

log = logging.getLogger("benchmarks")

OPTIMIZERS = {"adam": "Adam", "rowwise_adagrad": "row-wise Adagrad"}
DIMS = (16, 32, 64, 128)
SMALL = 256
MOST = {(64, "zipf"): 2.0}
"""How many times the limit a step may take."""
COPIED = 1 << 28
"""Bytes of the array that is copied: more than any processor's cache."""
_SECONDS = 0.4  # a round
_COUNTED, _COUNTED_DIM = 50, 64  # steps, by hardware counters
EXPLAINED = (
    "Find: ids to rows. Gather: rows to vectors. Merge: which ids are the same. Step: gradients to rows. Python: all "
    "between these. The limit: what a step must move once (a line of the index for each distinct id, rows with their "
    "slots there and back, ids, vectors, gradients), at the speed of a copy of 256 MiB by as many threads in the same "
    "run. The fastest round counts, of steps and of copies alike."
)


def run(sizes: Sizes) -> Iterator[Result]:
    """Each optimizer, width and stream of ids, in large batches and in small ones."""
    hotrow.set_threads(sizes.threads)
    copy = Copy(1 << 16 if sizes.quick else COPIED)
    shares: list[Result] = []
    dims, counted = (sizes.dims, sizes.dims[0]) if sizes.quick else (DIMS, _COUNTED_DIM)
    yield Result(EXPLAINED, {}, "", "", 0)
    for optimizer, dim in product(OPTIMIZERS, dims):
        work = Workload(sizes.rows, dim, optimizer)
        what = f"phases: {OPTIMIZERS[optimizer]}, D = {dim}"
        if not machine.fits(work.nbytes, what):
            continue
        log.info(what)
        table = _table(work)
        for size, stream in product((sizes.batch, min(SMALL, sizes.batch)), STREAMS):
            measured = _measure(sizes, work, table, copy, size, stream)
            yield from _results(sizes, work, size, stream, measured)
            shares.append(_share(work, size, stream, measured))
        if (dim, optimizer) == (counted, "adam"):
            yield from _counted(sizes, work, table)
        del table
        gc.collect()  # the table, before the next one is built
    yield from shares


def _table(work: Workload) -> hotrow.Table:
    names = {"adam": "Adam", "rowwise_adagrad": "RowwiseAdagrad"}
    return phases.fill(work.dim, getattr(hotrow, names[work.optimizer])(), work.ids)


def _batches(work: Workload, size: int, stream: str) -> list[np.ndarray]:
    return [work.ids[rows] for rows in workload.batches(stream, work.rows, size)]


def _measure(sizes: Sizes, work: Workload, table: hotrow.Table, copy: Copy, size: int, stream: str) -> Measured:
    gradients = workload.gradients(size, work.dim)
    seconds = 0.0 if sizes.quick else _SECONDS
    return phases.measure(table, _batches(work, size, stream), gradients, copy, rounds=sizes.rounds, seconds=seconds)


def _fastest(measured: Measured) -> Split:
    """The round that was least disturbed, as in all benchmarks here."""
    return min(measured.rounds, key=lambda one: one.total)


def _results(sizes: Sizes, work: Workload, size: int, stream: str, measured: Measured) -> Iterator[Result]:
    """The limit first, for the ratio of a step is to it; then the phases."""
    small = size < sizes.batch
    factor, unit = (1e6, "µs") if small else (1e3, "ms")
    title = f"Where a training step goes, {OPTIMIZERS[work.optimizer]}, {work.rows:,} rows, {size:,} ids"
    case = {"D": work.dim, "ids": stream}
    split, limit = _fastest(measured), measured.traffic.total / max(measured.speeds)
    if not small:
        yield Result(title, case, "the limit", unit, factor * limit)
    rounds = [factor * one.total for one in measured.rounds]
    most = None if small or sizes.quick else MOST.get((work.dim, stream))
    ratio = None if small else split.total / limit
    yield Result(title, case, "a step", unit, factor * split.total, rounds, ratio, most=most)
    for phase in PHASES:
        if phase != "first values":  # no id is new here
            each = [factor * one.seconds[phase] for one in measured.rounds]
            yield Result(title, case, phase, unit, factor * split.seconds[phase], each)


def _share(work: Workload, size: int, stream: str, measured: Measured) -> Result:
    split = _fastest(measured)
    share = 100 * split.seconds["Python"] / split.total
    case = {"optimizer": OPTIMIZERS[work.optimizer], "D": work.dim, "ids": stream}
    return Result("Python's share of a step", case, f"{size:,} ids", "%", share)


def _counted(sizes: Sizes, work: Workload, table: hotrow.Table) -> Iterator[Result]:
    """What the processor counted in a step, or a line that says that it doesn't tell."""
    events, reason = counters.available()
    if reason:
        yield Result(f"Hardware counters: {reason}.", {}, "", "", 0)
    gradients = workload.gradients(sizes.batch, work.dim)
    for stream in STREAMS if events else ():
        batches = _batches(work, sizes.batch, stream)

        def steps(batches: list[np.ndarray] = batches) -> None:
            for i in range(_COUNTED):
                phases.step(table, batches[i % len(batches)], gradients)

        title = f"Counted in a step, {OPTIMIZERS[work.optimizer]}, D = {work.dim}, {sizes.batch:,} ids"
        for event, count in counters.count(events, steps).items():
            yield Result(title, {"ids": stream}, event, "", count / _COUNTED)
