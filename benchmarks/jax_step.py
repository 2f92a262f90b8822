"""A training step in JAX: hotrow.jax beside a matrix, whose jnp.take and dense Adam are one compiled function."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np

import hotrow
from benchmarks import harness, machine, workload
from benchmarks.harness import Result, UnequalError
from benchmarks.workload import RATES, Sizes

log = logging.getLogger("benchmarks")

BATCH, IDS, DIM = 4096, 10, 32
EPSILON = 1e-4
"""Of both Adams; so large that a rounding error beside a sum of zero isn't a whole step."""
FEW, MANY = 10_000, 1_000_000
MANY_LEAST = 5.0
"""How many times as long the dense step must take with many rows."""
_BYTES_A_ROW = 1_200
"""Of both sides together, with the dense gradient."""


def run(sizes: Sizes) -> Iterator[Result]:
    """Few rows, where a dense step is cheap, and many, where it is not."""
    hotrow.set_threads(sizes.threads)
    for rows in (300, 3_000) if sizes.quick else (FEW, MANY):
        if machine.fits(_BYTES_A_ROW * rows, f"jax_step with {rows:,} rows"):
            log.info("jax_step: %s rows", f"{rows:,}")
            yield from _race(rows, sizes)


def _race(rows: int, sizes: Sizes) -> Iterator[Result]:
    batches = workload.batches("uniform", rows, BATCH * IDS, n=10)
    batches = [batch.reshape(BATCH, IDS) for batch in batches]
    ours, theirs = Ours(rows), Dense(rows)
    first = batches[0]
    ours.step(first)
    theirs.step(first)
    difference = float(np.abs(ours.vectors(first) - theirs.vectors(first)).max())
    if not difference <= 1e-5:  # NaN isn't
        raise UnequalError(f"after one step, the matrix is {difference:.3g} away from hotrow.jax")
    sides: dict[str, harness.Side] = {
        "hotrow.jax, raw 64-bit ids": lambda i: ours.step(batches[i % len(batches)]),
        "jnp.take and dense Adam, ready-made rows": lambda i: theirs.step(batches[i % len(batches)]),
    }
    dense = list(sides)[1]
    yield from harness.results(
        f"A training step in JAX, {BATCH:,} × {IDS} ids, {DIM} floats a vector, Adam",
        {"rows": rows},
        harness.race(sides, sizes.rounds, sizes.steps),
        least={dense: MANY_LEAST} if rows == MANY else None,
        differences={dense: difference},
    )


def _loss(kernel, vectors, y):
    return jnp.mean((vectors.mean(1) @ kernel - y) ** 2)


class Side:
    """What both sides share: a dense layer that stays as it is, and targets."""

    def __init__(self) -> None:
        rng = np.random.default_rng(3)
        self.kernel = jnp.asarray(rng.normal(size=(DIM, 1)), jnp.float32)
        self.y = jnp.asarray(rng.normal(size=(BATCH, 1)), jnp.float32)


class Ours(Side):
    """hotrow.jax: ids to rows on the host, the model compiled, rows moved on the host."""

    def __init__(self, rows: int) -> None:
        super().__init__()
        self.ids = workload.raw_ids(rows)
        optimizer = hotrow.Adam(RATES["adam"], epsilon=EPSILON)
        self.emb = hotrow.jax.Embedding(None, DIM, optimizer=optimizer)
        for chunk, weights in workload.Workload(rows, DIM, "adam").weights():
            self.emb.table.set(self.ids[chunk], weights)
        self.gradients_of = jax.jit(jax.grad(_loss, argnums=(0, 1)))

    def step(self, rows: np.ndarray) -> None:
        """One step, all of it."""
        batch = self.emb.find(self.ids[rows])
        kernel, vectors = self.gradients_of(self.kernel, self.emb(batch), self.y)
        self.emb.update(batch, vectors)
        kernel.block_until_ready()

    def vectors(self, rows: np.ndarray) -> np.ndarray:
        """Those of these rows."""
        return self.emb.table.lookup(self.ids[rows])


class Dense(Side):
    """A matrix and two more for Adam, given away to a compiled step, which so writes them in place."""

    def __init__(self, rows: int) -> None:
        super().__init__()
        weights = np.concatenate([drawn for _, drawn in workload.Workload(rows, DIM, "adam").weights()])
        zeros = np.zeros_like(weights)
        self.state = jax.block_until_ready((*map(jnp.array, (weights, zeros, zeros)), jnp.float32(0)))

    def step(self, rows: np.ndarray) -> None:
        """One step, all of it."""
        self.state, kernel = _dense_step(self.state, self.kernel, jnp.asarray(rows, jnp.int32), self.y)
        jax.block_until_ready((self.state, kernel))

    def vectors(self, rows: np.ndarray) -> np.ndarray:
        """Those of these rows."""
        return np.asarray(self.state[0])[rows]


@partial(jax.jit, donate_argnums=0)
def _dense_step(state, kernel, rows, y):
    w, m, v, t = state
    by_kernel, g = jax.grad(lambda kernel, w: _loss(kernel, jnp.take(w, rows, axis=0), y), argnums=(0, 1))(kernel, w)
    m, v, t = 0.9 * m + 0.1 * g, 0.999 * v + 0.001 * g * g, t + 1
    rate = RATES["adam"] * jnp.sqrt(1 - 0.999**t) / (1 - 0.9**t)
    w -= rate * m / (jnp.sqrt(v) + EPSILON)
    return (w, m, v, t), by_kernel
