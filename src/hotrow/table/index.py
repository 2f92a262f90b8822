"""Keys to rows: a collisionless hash index that grows."""

from __future__ import annotations

import numpy as np

from hotrow.errors import ArgumentError
from hotrow.kernels import lines, probing, readonly, threads
from hotrow.table.memory import Growable

MOST_ROWS = 2**31 - 2
_FEWEST = 8  # buckets
_MOST_A_BUCKET = 4  # on average, of its five cells
_GRAIN = 8192  # keys that are worth a thread


class Index:
    """Which row a key has. Rows are numbered from 0 up; rows of erased keys are given out again, the latest first.

    row_keys[r] is the key of row r. How `cells` are laid out is told in `kernels/probing.py`.
    """

    def __init__(self) -> None:
        self.cells = _empty(0)
        self._row_keys: Growable | None = Growable(np.uint64, MOST_ROWS)
        self._fixed_keys = np.zeros(0, np.uint64)
        self._free = np.zeros(0, np.int32)
        self._n_free = 0
        self.n_rows = 0

    @classmethod
    def over(cls, cells: np.ndarray, row_keys: np.ndarray, *, writable: bool) -> Index:
        """The index that these arrays are: copied to be grown, or as they are (memory maps) to be read."""
        index = cls.__new__(cls)
        index.cells, index._row_keys, index._fixed_keys = cells, None, row_keys
        if writable:
            index.cells = _zeros(len(cells))
            index.cells[:] = cells
            index._row_keys = Growable.holding(row_keys, MOST_ROWS)
        index._free = np.zeros(0, np.int32)
        index._n_free = 0
        index.n_rows = len(row_keys)
        return index

    def __len__(self) -> int:
        return self.n_rows - self._n_free

    @property
    def row_keys(self) -> np.ndarray:
        """uint64 (n_rows,): a view; the keys of free rows in it mean nothing."""
        return self._fixed_keys if self._row_keys is None else self._row_keys.array[: self.n_rows]

    def room(self) -> int:
        """How many keys the cells would hold if all were used; they are at most four fifths full."""
        return probing.CELLS * len(self.cells) // probing.WORDS

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
        threads.run(
            probing.find, threads.even(len(keys), _GRAIN), readonly(self.cells), self.n_rows, readonly(keys), rows
        )
        return rows

    def fetch(self, keys: np.ndarray, data: np.ndarray, stride: int, out: np.ndarray) -> np.ndarray:
        """As `find`, and the weights of each row, or zeros, to out float32 (n, dim); data is that of `Rows`."""
        rows = np.empty(len(keys), np.int32)
        arrays = readonly(self.cells), self.n_rows, readonly(keys), readonly(data)
        bounds = threads.even(len(keys), _GRAIN // 4)
        threads.run(probing.fetch, bounds, *arrays, stride, out.shape[1], rows, *lines(out))
        return rows

    def insert(self, keys: np.ndarray, rows: np.ndarray) -> None:
        """Give a row to each key whose entry in `rows` is −1, and write it there.

        Those keys must be distinct and absent. Raises ArgumentError, with nothing changed, beyond 2³¹ − 2 rows.
        """
        assert self._row_keys is not None
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
        assert self._row_keys is not None
        probing.erase(self.cells, readonly(keys))
        self._free = np.concatenate([self._free[: self._n_free], rows.astype(np.int32)])
        self._n_free = len(self._free)
        self._row_keys.array[rows] = 0

    def _make_room(self, n: int) -> None:
        if n * probing.WORDS <= _MOST_A_BUCKET * len(self.cells):
            return
        cells = _empty(n)
        probing.refill(cells, readonly(self.cells), 0, len(self.cells) // probing.WORDS)
        self.cells = cells


def _zeros(words: int) -> np.ndarray:
    """Empty cells that begin with a page, and so with a cache line."""
    cells = Growable(np.uint64, words)
    cells.ensure(words)
    return cells.array[:words]


def _empty(n: int) -> np.ndarray:
    """Empty cells for n keys: a power of two of buckets."""
    buckets = _FEWEST
    while _MOST_A_BUCKET * buckets < n:
        buckets *= 2
    return _zeros(buckets * probing.WORDS)


def cells_of(row_keys: np.ndarray) -> np.ndarray:
    """A fresh index over `row_keys` (uint64 (n,), distinct), key i at row i."""
    cells = _empty(len(row_keys))
    probing.fill(cells, readonly(row_keys), 0, len(row_keys))
    return cells
