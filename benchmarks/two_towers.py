"""The two-tower model of TensorFlow Recommenders' tutorial, in Keras and on two tables.

MovieLens 100K, 80,000 ratings to train on in batches of 8,192, three epochs, 32 floats a vector, Adagrad 0.1, and the
softmax of each pair's item among all items of its batch, summed over the batch. Both sides are given the same strings,
first vectors and batches. Keras's is compiled and its data cached before the clock starts; so is what Numba compiles.

On hotrow a step reads each distinct user and item of its batch once: what comes n times in the softmax counts n times.
That is the same sum, of some 900 × 1,300 numbers in place of 8,192 × 8,192. The sides end elsewhere: Keras's Adagrad
squares the gradients of an id that comes several times in a batch one by one, before they are added up.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from statistics import mean

from benchmarks import harness, protocols
from benchmarks.harness import Result
from benchmarks.workload import Sizes

log = logging.getLogger("benchmarks")

LEAST = 5.0
"""How many times as long Keras must take."""
METRICS = {"top@10": 2.2, "top@100": 23.3}
"""What hotrow must reach, in percent."""
_TITLE = "The two-tower model of TFRS's tutorial, three epochs"


def run(sizes: Sizes) -> Iterator[Result]:
    """Times of three epochs, taking turns in one process; then the share of test pairs among the first k."""
    name = "made_up" if sizes.quick else "tfrs"
    if missing := protocols.PROTOCOLS[name].missing():
        log.warning("two_towers is left out: there is no %s", missing[0])
        return
    rounds = 1 if sizes.quick else 3
    case = {"protocol": name, "rounds": rounds, "threads": sizes.threads}
    found = harness.in_a_child("benchmarks.two_towers_child", case)
    ours, keras = found["ms"]
    yield from harness.results(_TITLE, {"pairs": name}, found["ms"], least=None if sizes.quick else {keras: LEAST})
    for side, metrics in found["metrics"].items():
        for metric, values in metrics.items():
            least = METRICS.get(metric) if side == ours and not sizes.quick else None
            table = f"Test pairs whose item is among the first k, mean of {rounds} seeds"
            yield Result(table, {"": metric}, side, "%", mean(values), values, least=least)
