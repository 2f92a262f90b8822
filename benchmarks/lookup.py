"""Many ids to their vectors, from raw ids, beside peers that are given ready-made rows.

hotrow's table is one that is being trained by Adam, whose slots lie between the vectors: what a user has, and slower
than a table of vectors alone.
"""

from __future__ import annotations

import gc
import logging
from collections.abc import Iterator

import numpy as np

from benchmarks import harness, machine, workload
from benchmarks.harness import Result
from benchmarks.peers import DictNumpy, Fbgemm, Hotrow, Peer, Torch, present
from benchmarks.workload import STREAMS, Sizes, Workload

log = logging.getLogger("benchmarks")

OPTIMIZER = {Hotrow: "adam", Torch: "adam", Fbgemm: "rowwise_adagrad", DictNumpy: "rowwise_adagrad"}
LEAST = {"torch, ready-made rows": 1.0}
"""How many times as long a peer must take, at least."""


def run(sizes: Sizes) -> Iterator[Result]:
    """Every width and stream of ids, into new memory and into an array that is used again."""
    for dim in sizes.dims:
        works = {peer: Workload(sizes.rows, dim, OPTIMIZER[peer]) for peer in present(OPTIMIZER, dim)}
        what = f"lookup: D = {dim}"
        if not machine.fits(sum(work.nbytes for work in works.values()), what):
            continue
        log.info(what)
        peers = [peer(work, sizes.threads) for peer, work in works.items()]
        for stream in STREAMS:
            yield from _measure(sizes, dim, stream, peers)
        del peers
        gc.collect()  # the tables, before the next ones are built


def _measure(sizes: Sizes, dim: int, stream: str, peers: list[Peer]) -> Iterator[Result]:
    batches = workload.batches(stream, sizes.rows, sizes.lookups, 10)
    differences = harness.check_equal(peers, batches[:1], None)
    reused = np.empty((sizes.lookups, dim), np.float32)
    for title, out in (("", None), (", out= given", reused)):
        sides = harness.lookups_of([peer for peer in peers if out is None or peer.takes_out], batches, out)
        yield from harness.results(
            f"Lookup of {sizes.lookups:,} ids, {sizes.rows:,} rows{title}",
            {"D": dim, "ids": stream},
            harness.race(sides, sizes.rounds, sizes.steps),
            least=None if sizes.quick else LEAST,
            differences=differences,
        )
