"""Raw 64-bit ids to vectors, beside all that is given raw ids too.

hotrow's table is one that is being trained by Adam, whose slots lie between the vectors; its peers hold vectors alone.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator

from benchmarks import harness, machine, workload
from benchmarks.harness import Result
from benchmarks.peers import FbgemmFromIds, Hotrow, Peer, present
from benchmarks.tf_peers import DenseTable, LookupLayer
from benchmarks.tfra import Tfra
from benchmarks.workload import STREAMS, Sizes, Workload

log = logging.getLogger("benchmarks")

DIM = 32
OPTIMIZER: dict[type[Peer], str] = {
    Hotrow: "adam",
    Tfra: "adam",
    DenseTable: "adagrad",
    LookupLayer: "adagrad",
    FbgemmFromIds: "rowwise_adagrad",
}
"""hotrow's own; to the others it is how much memory they take, for none of them steps here."""
LEAST = {Tfra: 8.0, LookupLayer: 3.0, DenseTable: 1.5}
"""How many times as long a peer must take, at least."""


def run(sizes: Sizes) -> Iterator[Result]:
    """Zipf ids and uniform ones."""
    works = {peer: Workload(sizes.rows, DIM, OPTIMIZER[peer]) for peer in present(OPTIMIZER)}
    if not machine.fits(sum(work.nbytes for work in works.values()), "raw"):
        return
    log.info("raw")
    peers = [peer(work, sizes.threads) for peer, work in works.items()]
    for stream in STREAMS:
        batches = workload.batches(stream, sizes.rows, sizes.lookups, 10)
        differences = harness.check_equal(peers, batches[:1], None)
        sides = harness.lookups_of(peers, batches, None)
        least = {} if sizes.quick else {harness.label(peer): LEAST.get(type(peer)) for peer in peers}
        yield from harness.results(
            f"Lookup of {sizes.lookups:,} raw ids, {sizes.rows:,} rows",
            {"D": DIM, "ids": stream},
            harness.race(sides, sizes.rounds, sizes.steps),
            least={name: value for name, value in least.items() if value is not None},
            differences=differences,
        )
