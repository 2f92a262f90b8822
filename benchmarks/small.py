"""A training step of few ids, where what surrounds the work on rows is most of the step."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from dataclasses import replace

from benchmarks import machine
from benchmarks.harness import Result
from benchmarks.peers import DictNumpy, Hotrow, Torch, present
from benchmarks.step import measure
from benchmarks.workload import STREAMS, Sizes, Workload

log = logging.getLogger("benchmarks")

DIM = 16
LEAST = {("adam", stream): {Torch: 5.0} for stream in STREAMS}
"""How many times as long torch's step must take."""
_STEPS = 10
"""How many times as many steps a round has as that of a large batch, for they are so short."""


def run(sizes: Sizes) -> Iterator[Result]:
    """Adam, beside torch's embedding and SparseAdam."""
    work, kinds = Workload(sizes.rows, DIM, "adam"), present((Hotrow, Torch, DictNumpy), DIM)
    if not machine.fits(len(kinds) * work.nbytes, "small"):
        return
    log.info("small")
    more = replace(sizes, steps=_STEPS * sizes.steps)
    yield from measure(more, work, [peer(work, sizes.threads) for peer in kinds], sizes.small, LEAST)
