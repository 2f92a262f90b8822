"""A step of `fit` in Keras, on each backend: hotrow's layer beside Keras's own, in one process each."""

from __future__ import annotations

import json
import logging
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

from benchmarks import harness, machine
from benchmarks.harness import Result
from benchmarks.workload import Sizes

log = logging.getLogger("benchmarks")

BACKENDS = ("tensorflow", "jax", "torch")
FEW, MANY = 10_000, 10_000_000
FEW_LEAST = {"tensorflow": 1 / 1.1, "jax": 1 / 1.5, "torch": 1 / 1.1}
"""How many times as long Keras's layer must take on few rows: hotrow may cost 1.1 or 1.5 times as much."""
MANY_LEAST = 50.0
_BYTES_A_ROW = 900
"""Of both models together, with Keras's gradient as wide as the matrix and what is moved while it steps."""


def run(sizes: Sizes) -> Iterator[Result]:
    """Few rows, where Keras's dense step is cheap, and many, where it is not."""
    for backend in BACKENDS:
        for rows in (300, 3_000) if sizes.quick else (FEW, MANY):
            if machine.fits(_BYTES_A_ROW * rows, f"fit on {backend} with {rows:,} rows"):
                yield from _race(backend, rows, sizes)


def _race(backend: str, rows: int, sizes: Sizes) -> Iterator[Result]:
    log.info("fit: %s, %s rows", backend, f"{rows:,}")
    batches, rounds = (2, 1) if sizes.quick else (20, sizes.rounds) if rows < MANY else (5, 2)
    command = [sys.executable, "-m", "benchmarks.fit_child", *map(str, (rows, batches, rounds))]
    where = Path(__file__).parents[1]
    chosen = os.environ | {"KERAS_BACKEND": backend}
    done = subprocess.run(command, cwd=where, env=chosen, stdout=subprocess.PIPE, text=True, check=True)
    taken = json.loads(done.stdout.splitlines()[-1])
    theirs = list(taken)[1]
    least = {theirs: FEW_LEAST[backend] if rows < MANY else MANY_LEAST}
    title = "A step of Keras's fit, 4,096 × 10 ids, 32 floats a vector, Adam"
    yield from harness.results(title, {"backend": backend, "rows": rows}, taken, least=None if sizes.quick else least)
