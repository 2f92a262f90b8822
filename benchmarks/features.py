"""A step of `fit` with 26 columns in one Features layer, on each backend, in one process each.

Beside one Embedding with as many ids, and as many rows in all; and beside 26 of Keras's own.
"""

from __future__ import annotations

import json
import logging
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

from benchmarks import harness, machine
from benchmarks.fit import BACKENDS
from benchmarks.harness import Result
from benchmarks.workload import Sizes

log = logging.getLogger("benchmarks")

ROWS = {"one": 100_000, "dense": 1_000_000}
"""Of each column."""
LEAST = {"one": 1 / 1.5, "dense": 10.0}
"""How many times as long the peer must take: one Embedding may be quicker, Keras's 26 may not."""
_BYTES = {"one": 26 * 600, "dense": 26 * 16 * 4 * 9}
"""Of both models together, for each row of a column, with Keras's gradients as wide as its matrices."""
_BESIDE = {"one": "one Embedding with as many ids", "dense": "26 of Keras's layers"}


def run(sizes: Sizes) -> Iterator[Result]:
    """Each peer, on each backend."""
    for peer, most in ROWS.items():
        rows = 1_000 if sizes.quick else most
        for backend in BACKENDS:
            if machine.fits(_BYTES[peer] * rows, f"features on {backend} with {rows:,} rows a column"):
                yield from _race(backend, peer, rows, sizes)


def _race(backend: str, peer: str, rows: int, sizes: Sizes) -> Iterator[Result]:
    log.info("features: %s, beside %s", backend, peer)
    batches, rounds = (2, 1) if sizes.quick else (10, sizes.rounds) if peer == "one" else (4, 2)
    command = [sys.executable, "-m", "benchmarks.features_child", *map(str, (rows, batches, rounds)), peer]
    where = Path(__file__).parents[1]
    chosen = os.environ | {"KERAS_BACKEND": backend}
    done = subprocess.run(command, cwd=where, env=chosen, stdout=subprocess.PIPE, text=True, check=True)
    taken = json.loads(done.stdout.splitlines()[-1])
    title = f"A step of fit with 26 columns beside {_BESIDE[peer]}, 8,192 examples, 16 floats a vector, Adam"
    wanted = None if sizes.quick else {list(taken)[1]: LEAST[peer]}
    yield from harness.results(title, {"backend": backend, "rows a column": rows}, taken, least=wanted)
