"""Keys to rows: a collisionless hash index that grows."""

from __future__ import annotations

import numpy as np

from hotrow.errors import ArgumentError
from hotrow.kernels import probing, readonly, threads
from hotrow.table.memory import Growable

MOST_ROWS = 2**31 - 2
_SMALLEST = 64  # cells
_GRAIN = 8192  # keys that are worth a thread


class Index:
    """Which row a key has. Rows are numbered from 0 up; rows of erased keys are given out again, the latest first.

    row_keys[r] is the key of row r. `cells` and the order of their use are told in `kernels/probing.py`.
    """

    def __init__(self) -> None:
        self.cells = np.zeros(_SMALLEST, np.uint64)
        self._row_keys = Growable(np.uint64, MOST_ROWS)
        self._free = np.zeros(0, np.int32)
        self._n_free = 0
        self.n_rows = 0

    @classmethod
    def over(cls, cells: np.ndarray, row_keys: np.ndarray, *, writable: bool) -> Index:
        """The index that these arrays are: copied to be grown, or as they are (memory maps) to be read."""
        index = cls.__new__(cls)
        index.cells = cells.copy() if writable else cells
        index._row_keys = Growable.holding(row_keys, MOST_ROWS) if writable else _Fixed(row_keys)
        index._free = np.zeros(0, np.int32)
        index._n_free = 0
        index.n_rows = len(row_keys)
        return index

    def __len__(self) -> int:
        return self.n_rows - self._n_free

    @property
    def row_keys(self) -> np.ndarray:
        """uint64 (n_rows,): a view; the keys of free rows in it mean nothing."""
        return self._row_keys.array[: self.n_rows]

    def rows(self) -> np.ndarray:
        """The rows in use, ascending: int32 (len(self),)."""
        used = np.ones(self.n_rows, bool)
        used[self._free[: self._n_free]] = False
        return np.flatnonzero(used).astype(np.int32)

    @property
    def has_holes(self) -> bool:
        """Whether some row below `n_rows` is free."""
        return self._n_free > 0

    def find(self, keys: np.ndarray) -> np.ndarray:
        """The row of each key, −1 where it has none: uint64 (n,) → int32 (n,)."""
        rows = np.empty(len(keys), np.int32)
        arrays = readonly(self.cells), readonly(self._row_keys.array), readonly(keys)
        threads.run(probing.find, threads.even(len(keys), _GRAIN), *arrays, rows)
        return rows

    def fetch(self, keys: np.ndarray, data: np.ndarray, stride: int, out: np.ndarray) -> np.ndarray:
        """As `find`, and the weights of each row, or zeros, to out float32 (n, dim); data is that of `Rows`."""
        rows = np.empty(len(keys), np.int32)
        arrays = readonly(self.cells), readonly(self._row_keys.array), readonly(keys), readonly(data)
        bounds = threads.even(len(keys), _GRAIN // 4)
        threads.run(probing.fetch, bounds, *arrays, stride, out.shape[1], rows, out)
        return rows

    def insert(self, keys: np.ndarray, rows: np.ndarray) -> None:
        """Give a row to each key whose entry in `rows` is −1, and write it there.

        Those keys must be distinct and absent. Raises ArgumentError, with nothing changed, beyond 2³¹ − 2 rows.
        """
        new = int(np.count_nonzero(rows < 0))
        if len(self) + new > MOST_ROWS:
            raise ArgumentError(
                f"a table holds at most {MOST_ROWS} rows; it has {len(self)} and was given {new} new ids"
            )
        self._make_room(len(self) + new)
        self._row_keys.ensure(self.n_rows + new)
        self.n_rows, self._n_free = probing.insert(
            self.cells, self._row_keys.array, readonly(keys), rows, self._free, self._n_free, self.n_rows
        )

    def erase(self, keys: np.ndarray, rows: np.ndarray) -> None:
        """Forget keys that are there, all distinct, and free their rows."""
        probing.erase(self.cells, readonly(self._row_keys.array), readonly(keys))
        self._free = np.concatenate([self._free[: self._n_free], rows.astype(np.int32)])
        self._n_free = len(self._free)
        self._row_keys.array[rows] = 0

    def _make_room(self, n: int) -> None:
        if 4 * n <= 3 * len(self.cells):
            return
        cells = np.zeros(cells_for(n), np.uint64)
        probing.refill(cells, readonly(self.cells), readonly(self._row_keys.array), 0, len(self.cells))
        self.cells = cells


class _Fixed:
    """A read-only array where a Growable is expected."""

    def __init__(self, array: np.ndarray) -> None:
        self.array = array


def cells_for(n: int) -> int:
    """How many cells hold `n` keys at three quarters full or less: a power of two."""
    size = _SMALLEST
    while 3 * size < 4 * n:
        size *= 2
    return size


def cells_of(row_keys: np.ndarray) -> np.ndarray:
    """A fresh index over `row_keys` (uint64 (n,), distinct), key i at row i."""
    cells = np.zeros(cells_for(len(row_keys)), np.uint64)
    probing.fill(cells, readonly(row_keys), readonly(np.arange(len(row_keys), dtype=np.int32)), 0, len(row_keys))
    return cells
