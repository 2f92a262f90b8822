"""A full training step, from raw ids to moved rows, beside peers that are given ready-made rows or raw ids too."""

from __future__ import annotations

import gc
import logging
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import product

from benchmarks import harness, machine, workload
from benchmarks.harness import Result
from benchmarks.peers import DictNumpy, Fbgemm, FbgemmFromIds, Hotrow, Peer, Torch, present
from benchmarks.tfra import Tfra
from benchmarks.workload import STREAMS, Sizes, Workload

log = logging.getLogger("benchmarks")

TITLES = {"adam": "Adam", "rowwise_adagrad": "row-wise Adagrad", "adagrad": "Adagrad"}
PEERS = (Hotrow, Torch, Fbgemm, FbgemmFromIds, Tfra, DictNumpy)
LEAST = {
    ("adam", "zipf"): {Torch: 4.0},
    ("adam", "uniform"): {Torch: 4.0},
    ("rowwise_adagrad", "zipf"): {Fbgemm: 1.4, FbgemmFromIds: 2.0},
    ("rowwise_adagrad", "uniform"): {Fbgemm: 1.3, FbgemmFromIds: 2.0},
}
"""How many times as long a peer's step must take, at least, at every width."""


def run(sizes: Sizes) -> Iterator[Result]:
    """Every optimizer, width and stream of ids; the peers are those that have the optimizer."""
    for optimizer, dim in product(TITLES, sizes.dims):
        kinds = [peer for peer in present(PEERS, dim) if optimizer in peer.optimizers]
        work = Workload(sizes.rows, dim, optimizer)
        what = f"step: {TITLES[optimizer]}, D = {dim}"
        while not machine.fits(len(kinds) * work.nbytes, f"{what}, {work.rows:,} rows") and work.rows > sizes.batch:
            work = replace(work, rows=work.rows // 2)
        log.info(what)
        yield from measure(sizes, work, [peer(work, sizes.threads) for peer in kinds], sizes.batch, LEAST)
        gc.collect()  # the tables, before the next ones are built


def measure(
    sizes: Sizes,
    work: Workload,
    peers: Sequence[Peer],
    batch: int,
    least: Mapping[tuple[str, str], Mapping[type[Peer], float]],
) -> Iterator[Result]:
    """The steps of `batch` ids of peers that hold `work`, checked for the same numbers first."""
    gradients = workload.gradients(batch, work.dim)
    many = max(40, sizes.steps)  # no batch comes twice in a round
    batches = {stream: workload.batches(stream, work.rows, batch, many) for stream in STREAMS}
    # Only now are all tables at the same step: in a race a slow side takes fewer.
    differences = harness.check_equal(peers, [rows for stream in STREAMS for rows in batches[stream][:2]], gradients)
    for stream in STREAMS:
        sides = harness.steps_of(peers, batches[stream], gradients)
        wanted = {} if sizes.quick else least.get((work.optimizer, stream), {})
        yield from harness.results(
            f"Training step, {TITLES[work.optimizer]}, {work.rows:,} rows, {batch:,} ids",
            {"D": work.dim, "ids": stream},
            harness.race(sides, sizes.rounds, sizes.steps),
            least={harness.label(peer): wanted[type(peer)] for peer in peers if type(peer) in wanted},
            differences=differences,
        )
