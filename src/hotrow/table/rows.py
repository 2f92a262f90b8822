"""Where a row's numbers lie: its weights, then its slots, side by side in one flat array."""

from __future__ import annotations

import numpy as np

from hotrow.kernels import drawing, pooling, readonly, threads
from hotrow.table.memory import Growable

_MOST_FLOATS = 2**40
_GRAIN = 1 << 17  # floats that are worth a thread


class Rows:
    """Row r is data[r · stride : (r + 1) · stride]: `dim` weights, then what the optimizer keeps.

    Side by side, for a step that finds weights and slots in three arrays waits for three cache misses a row.
    """

    def __init__(self, dim: int, first_slots: np.ndarray, data: np.ndarray | None = None) -> None:
        self.dim = dim
        self.stride = dim + len(first_slots)
        self._first_slots = first_slots
        self._fixed = data
        self._data = Growable(np.float32, _MOST_FLOATS) if data is None else None

    @property
    def data(self) -> np.ndarray:
        """All of it, flat: take it anew at each use, for growth may replace it."""
        return self._fixed if self._data is None else self._data.array  # pyright: ignore[reportReturnType]

    def matrix(self, n: int) -> np.ndarray:
        """The first n rows, weights and slots: a view, float32 (n, stride)."""
        return self.data[: n * self.stride].reshape(n, self.stride)

    def ensure(self, n: int) -> None:
        """Make room for n rows in all."""
        if self._data is not None:
            self._data.ensure(n * self.stride)

    def start(self, rows: np.ndarray, keys: np.ndarray, seed: int, kind: int, numbers: tuple[float, float]) -> None:
        """Write the first values of `rows` (int32 (n,)), each by its key (uint64 (n,))."""
        _draw(self.data, self.stride, self.dim, rows, keys, seed, kind, numbers, self._first_slots)

    def gather(self, rows: np.ndarray, inverse: np.ndarray, out: np.ndarray) -> None:
        """out[i] = weights of rows[inverse[i]], zeros where that is −1."""
        bounds = threads.even(len(inverse), max(1, _GRAIN // self.dim))
        arrays = readonly(rows), readonly(inverse)
        threads.run(pooling.gather, bounds, readonly(self.data), self.stride, self.dim, *arrays, out)

    def scatter(self, rows: np.ndarray, inverse: np.ndarray, vectors: np.ndarray) -> None:
        """Weights of rows[inverse[i]] = vectors[i]; of two for one row, the later stays."""
        arrays = readonly(rows), readonly(inverse), readonly(vectors)
        pooling.scatter(self.data, self.stride, self.dim, *arrays, 0, len(inverse))


def first_weights(dim: int, keys: np.ndarray, seed: int, kind: int, numbers: tuple[float, float]) -> np.ndarray:
    """The weights that keys without a row would start with: float32 (n, dim)."""
    out = np.empty((len(keys), dim), np.float32)
    rows = np.arange(len(keys), dtype=np.int32)
    _draw(out.reshape(-1), dim, dim, rows, keys, seed, kind, numbers, np.zeros(0, np.float32))
    return out


def _draw(
    data: np.ndarray,
    stride: int,
    dim: int,
    rows: np.ndarray,
    keys: np.ndarray,
    seed: int,
    kind: int,
    numbers: tuple[float, float],
    slots: np.ndarray,
) -> None:
    arrays = readonly(rows), readonly(keys)
    bounds = threads.even(len(rows), max(1, _GRAIN // (8 * dim)))
    constants = np.uint64(seed), kind, numbers[0], numbers[1], readonly(slots)
    threads.run(drawing.first_values, bounds, data, stride, dim, *arrays, *constants)
