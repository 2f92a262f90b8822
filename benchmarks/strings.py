"""Strings to rows: hotrow given an Arrow array, Keras's StringLookup a tensor of strings."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from importlib import import_module

import numpy as np
import pyarrow as pa

import hotrow
from benchmarks import harness, workload
from benchmarks.harness import Result, Side, UnequalError
from benchmarks.peers import present
from benchmarks.tf_peers import LookupLayer, tensorflow
from benchmarks.workload import STREAMS, Sizes

log = logging.getLogger("benchmarks")

OURS, THEIRS = "hotrow, table.find of an Arrow array", "keras.layers.StringLookup"
LEAST = {THEIRS: 4.0}
"""How many times as long Keras's layer must take."""


def run(sizes: Sizes) -> Iterator[Result]:
    """Strings such as user_1234567, all of which are known."""
    if not present([LookupLayer]):
        return
    log.info("strings")
    tf = tensorflow(sizes.threads)
    numbers = np.random.default_rng(3).permutation(10 * sizes.strings)[: sizes.strings]
    known = [f"user_{number}" for number in numbers]
    table = _table(known, sizes.threads)
    layer = import_module("keras").layers.StringLookup(vocabulary=known)
    texts = np.array(known, object)
    for stream in STREAMS:
        batches = [texts[rows] for rows in workload.batches(stream, sizes.strings, sizes.lookups, 10)]
        ours, theirs = [pa.array(batch) for batch in batches], [tf.constant(batch) for batch in batches]
        _check(table.lookup(table.find(ours[0]))[:, 0], layer(theirs[0]).numpy() - 1)
        sides: dict[str, Side] = {
            OURS: lambda i, given=ours: _do(table.find, given[i % len(given)]),
            THEIRS: lambda i, given=theirs: _do(layer, given[i % len(given)]),
        }
        yield from harness.results(
            f"Rows of {sizes.lookups:,} strings, {sizes.strings:,} known",
            {"ids": stream},
            harness.race(sides, sizes.rounds, sizes.steps),
            least=None if sizes.quick else LEAST,
            differences={THEIRS: 0.0},
        )


def _do(call, given) -> None:
    call(given)


def _table(known: list[str], threads: int) -> hotrow.Table:
    """A table in which the vector of a string is its place among those that are known."""
    hotrow.set_threads(threads)
    table = hotrow.Table(1, ids="string")
    table.set(pa.array(known), np.arange(len(known), dtype=np.float32)[:, None])
    return table


def _check(ours: np.ndarray, theirs: np.ndarray) -> None:
    """Both found the same place for each string; float32 holds every whole number to 2**24."""
    wrong = np.flatnonzero(ours != theirs)
    if len(wrong):
        i = int(wrong[0])
        raise UnequalError(f"string {i} is the {ours[i]:.0f}th to hotrow and the {theirs[i]}th to Keras")
