"""A full training step, from raw ids to moved rows, beside peers that are given ready-made rows."""

from __future__ import annotations

import gc
import logging
from collections.abc import Iterator
from itertools import product

from benchmarks import harness, machine, workload
from benchmarks.harness import Result
from benchmarks.peers import PEERS, Peer, present
from benchmarks.workload import STREAMS, Sizes, Workload

log = logging.getLogger("benchmarks")

TITLES = {"adam": "Adam", "rowwise_adagrad": "row-wise Adagrad", "adagrad": "Adagrad"}
LEAST = {("adam", 64): {"torch, ready-made rows": 3.0}, ("rowwise_adagrad", 64): {"FBGEMM, ready-made rows": 1.0}}
"""How many times as long a peer's step must take, at least."""


def run(sizes: Sizes) -> Iterator[Result]:
    """Every optimizer, width and stream of ids; the peers are those that have the optimizer."""
    for optimizer, dim in product(TITLES, sizes.dims):
        work = Workload(sizes.rows, dim, optimizer)
        kinds = [peer for peer in present(PEERS) if optimizer in peer.optimizers]
        what = f"step: {TITLES[optimizer]}, D = {dim}"
        if not machine.fits(len(kinds) * work.nbytes, what):
            continue
        log.info(what)
        yield from _measure(sizes, work, [peer(work, sizes.threads) for peer in kinds])
        gc.collect()  # the tables, before the next ones are built


def _measure(sizes: Sizes, work: Workload, peers: list[Peer]) -> Iterator[Result]:
    gradients = workload.gradients(sizes.batch, work.dim)
    batches = {stream: workload.batches(stream, work.rows, sizes.batch) for stream in STREAMS}
    # Only now are all tables at the same step: in a race a slow side takes fewer.
    differences = harness.check_equal(peers, [rows for stream in STREAMS for rows in batches[stream][:2]], gradients)
    for stream in STREAMS:
        sides = harness.steps_of(peers, batches[stream], gradients)
        yield from harness.results(
            f"Training step, {TITLES[work.optimizer]}, {work.rows:,} rows, {sizes.batch:,} ids",
            {"D": work.dim, "ids": stream},
            harness.race(sides, sizes.rounds, sizes.steps),
            least=None if sizes.quick else LEAST.get((work.optimizer, work.dim)),
            differences=differences,
        )
