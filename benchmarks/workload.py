"""What all sides of a benchmark are given: the same ids, first weights, batches and gradients."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

import numpy as np

RATES = {"adam": 1e-3, "adagrad": 0.05, "rowwise_adagrad": 0.05}
EPSILON = 1e-8
STREAMS = ("zipf", "uniform")
ZIPF = 1.2

_CHUNK = 1 << 18  # rows; weights are drawn in chunks, for a second copy of a whole table may not fit


@dataclass(frozen=True)
class Sizes:
    """How much is measured. QUICK is a smoke run: it proves that all sides agree, and its times mean nothing."""

    rows: int = 4_000_000
    fewest: int = 100_000  # the two ends of the scaling benchmark
    most: int = 50_000_000  # of the scaling benchmark, and what a growing table grows to
    batch: int = 40_000
    small: int = 256
    lookups: int = 200_000
    strings: int = 1_000_000
    dims: tuple[int, ...] = (16, 32, 64, 128)
    rounds: int = 7
    steps: int = 20
    threads: int = 2
    quick: bool = False


QUICK = Sizes(2_000, 500, 5_000, 600, 64, 1_000, 2_000, dims=(16, 32), rounds=1, steps=2, quick=True)


@dataclass(frozen=True)
class Workload:
    """A table's ids and first weights. Row r of the peers that need ready-made rows belongs to `ids[r]`."""

    rows: int
    dim: int
    optimizer: str

    @cached_property
    def ids(self) -> np.ndarray:
        """The raw ids: int64 (rows,), distinct, over the whole range."""
        return raw_ids(self.rows)

    def weights(self) -> Iterator[tuple[slice, np.ndarray]]:
        """The first weights, by chunks of rows: float32 (chunk, dim)."""
        rng = np.random.default_rng(7)
        for start in range(0, self.rows, _CHUNK):
            rows = slice(start, min(start + _CHUNK, self.rows))
            drawn = rng.random((rows.stop - start, self.dim), np.float32)
            yield rows, (drawn - np.float32(0.5)) * np.float32(0.1)

    @property
    def nbytes(self) -> int:
        """A generous guess at what one side needs in memory."""
        slots = {"adam": 2 * self.dim, "adagrad": self.dim, "rowwise_adagrad": 1}
        return self.rows * (4 * (self.dim + slots[self.optimizer]) + 100)


def raw_ids(n: int) -> np.ndarray:
    """`n` distinct int64 that look random (a bijection of 0, 1, 2, …), so that more rows begin with the same ids."""
    x = np.arange(1, n + 1, dtype=np.uint64) * np.uint64(0x9E3779B97F4A7C15)
    for shift, factor in ((30, 0xBF58476D1CE4E5B9), (27, 0x94D049BB133111EB)):
        x = (x ^ (x >> np.uint64(shift))) * np.uint64(factor)
    return (x ^ (x >> np.uint64(31))).view(np.int64)


def batches(stream: str, rows: int, size: int, n: int = 40) -> list[np.ndarray]:
    """`n` batches of `size` row numbers below `rows`: int64. Zipf's frequent rows are the low ones."""
    rng = np.random.default_rng(11)
    drawn = rng.integers(0, rows, (n, size)) if stream == "uniform" else (rng.zipf(ZIPF, (n, size)) - 1) % rows
    return list(drawn.astype(np.int64))


def gradients(size: int, dim: int) -> np.ndarray:
    """Float32 (size, dim), multiples of 1/64: their sums are exact, so the order of adding can't tell sides apart.

    Adam divides a sum by its own size: where ids repeat, a rounding error beside a sum of zero is a whole step.
    """
    rng = np.random.default_rng(13)
    return (rng.integers(-128, 129, (size, dim)) / 64).astype(np.float32)
