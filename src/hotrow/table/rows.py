"""Where a row's numbers lie: its weights, then its slots, side by side in one flat array."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from os import PathLike
from pathlib import Path
from typing import Protocol

import numpy as np

from hotrow.kernels import drawing, lines, pooling, readonly, threads
from hotrow.table.mapped import Mapped, folder_of
from hotrow.table.memory import Growable

_MOST_FLOATS = 2**40
_PIECE = 1 << 20  # floats copied at a time, so that each page of a file is needed once
_POURED = 1 << 26  # floats that are poured from one file before the next one's turn
_GRAIN = 1 << 17  # floats that are worth a thread


class Pourable(Protocol):
    """A float32 matrix that is somewhere else, and comes when it is asked for."""

    @property
    def shape(self) -> tuple[int, ...]: ...
    def pour(self, data: np.ndarray, stride: int, column: int, start: int, stop: int) -> None: ...


class Rows:
    """Row r is data[r · stride : (r + 1) · stride]: `dim` weights, then what the optimizer keeps.

    Side by side, for a step that finds weights and slots in three arrays waits for three cache misses a row.
    They grow in memory, or in a file in the folder `path`; those of `data` are to be read.
    """

    def __init__(
        self,
        dim: int,
        first_slots: np.ndarray,
        data: np.ndarray | None = None,
        path: str | PathLike[str] | None = None,
    ) -> None:
        self.dim = dim
        self.stride = dim + len(first_slots)
        self.first_slots = first_slots
        self._fixed = data
        self._file = None if path is None else Mapped(np.float32, _MOST_FLOATS, folder_of(path))
        self._data = self._file or (Growable(np.float32, _MOST_FLOATS) if data is None else None)

    @property
    def data(self) -> np.ndarray:
        """All of it, flat: take it anew at each use, for growth may replace it."""
        return self._fixed if self._data is None else self._data.array  # pyright: ignore[reportReturnType]

    def matrix(self, n: int) -> np.ndarray:
        """The first n rows, weights and slots: a view, float32 (n, stride)."""
        return self.data[: n * self.stride].reshape(n, self.stride)

    def ensure(self, n: int) -> None:
        """Make room for n rows in all. DiskError, with nothing changed, where the disk is full."""
        if self._data is not None:
            self._data.ensure(n * self.stride)

    @property
    def path(self) -> Path | None:
        """The folder of the file that they are in, or None: they are in memory."""
        return self._file and self._file.folder

    def expect(self, rows: np.ndarray) -> None:
        """These (int32 (n,), −1 for none) are used next: what of them is on disk may be fetched together."""
        if self._file is not None:
            self._file.expect(rows, self.stride)

    def soon(self, first: int, n: int) -> None:
        """So many rows from `first` on are read next, in order: what of them is on disk may be fetched."""
        if self._file is not None:
            self._file.soon(first * self.stride, (first + n) * self.stride)

    @contextmanager
    def in_order(self) -> Generator[None]:
        """Within, they are read from the first to the last."""
        if self._file is not None:
            self._file.read_in_order(True)
        try:
            yield
        finally:
            if self._file is not None:
                self._file.read_in_order(False)

    def fill(self, n: int, parts: Sequence[tuple[slice, np.ndarray | Pourable]]) -> None:
        """Make room for n rows, and give them (columns, values float32 (n, width)) of each part."""
        self.ensure(n)
        matrix, few, many = self.matrix(n), max(1, _PIECE // self.stride), max(1, _POURED // self.stride)
        step = many if any(not isinstance(values, np.ndarray) for _, values in parts) else few
        for start in range(0, n, step):
            stop = min(n, start + step)
            for columns, values in parts:
                if isinstance(values, np.ndarray):
                    matrix[start:stop, columns] = values[start:stop]
                else:
                    values.pour(self.data, self.stride, columns.start or 0, start, stop)

    def with_slots(self, n: int, first_slots: np.ndarray) -> Rows:
        """The first n rows' weights, with new slots beside them."""
        rows = Rows(self.dim, first_slots, path=self.path)
        slots = np.broadcast_to(first_slots, (n, len(first_slots)))
        with self.in_order():
            rows.fill(n, [(slice(self.dim), self.matrix(n)[:, : self.dim]), (slice(self.dim, None), slots)])
        return rows

    def take(self, rows: np.ndarray) -> np.ndarray:
        """A copy of these rows (int32 (n,), ascending), to be read in order: float32 (n, stride), where they are."""
        n = int(rows[-1]) + 1 if len(rows) else 0
        if self._file is None:
            return self.matrix(n)[rows]
        copy, step = Mapped(np.float32, len(rows) * self.stride, self._file.folder), max(1, _PIECE // self.stride)
        copy.ensure(len(rows) * self.stride)
        copy.read_in_order(True)
        matrix = copy.array[: len(rows) * self.stride].reshape(len(rows), self.stride)
        with self.in_order():
            for start in range(0, len(rows), step):
                matrix[start : start + step] = self.matrix(n)[rows[start : start + step]]
        return matrix

    def start(self, rows: np.ndarray, keys: np.ndarray, seed: int, kind: int, numbers: tuple[float, float]) -> None:
        """Write the first values of `rows` (int32 (n,)), each by its key (uint64 (n,))."""
        _draw(self.data, self.stride, self.dim, rows, keys, seed, kind, numbers, self.first_slots)

    def gather(self, rows: np.ndarray, inverse: np.ndarray, out: np.ndarray) -> None:
        """out[i] = weights of rows[inverse[i]], zeros where that is −1."""
        bounds = threads.even(len(inverse), max(1, _GRAIN // self.dim))
        arrays = readonly(rows), readonly(inverse)
        threads.run(pooling.gather, bounds, readonly(self.data), self.stride, self.dim, *arrays, *lines(out))

    def scatter(self, rows: np.ndarray, inverse: np.ndarray, vectors: np.ndarray) -> None:
        """Weights of rows[inverse[i]] = vectors[i]; of two for one row, the later stays."""
        arrays = readonly(rows), readonly(inverse), readonly(vectors)
        pooling.scatter(self.data, self.stride, self.dim, *arrays, 0, len(inverse))


def balance(starts: np.ndarray, stride: int, dim: int) -> list[int]:
    """Slices of the distinct rows of a step that cost alike: an id costs a gradient, a row its numbers, there and back.

    starts int32 (m + 1,): row u has the gradients from starts[u] to starts[u + 1].
    """
    m, n = len(starts) - 1, int(starts[-1])
    per_row = 2 * stride / dim
    slices = threads.even(int(n + per_row * m), max(1, _GRAIN // dim))
    if len(slices) == 2:
        return [0, m]
    inner = (bisect_left(range(m), cost, key=lambda u: int(starts[u]) + per_row * u) for cost in slices[1:-1])
    return [0, *inner, m]


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
