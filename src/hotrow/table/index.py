"""Keys to rows: a collisionless hash index that grows without a pause."""

from __future__ import annotations

from typing import Any

import numpy as np

from hotrow.errors import ArgumentError
from hotrow.kernels import lines, probing, readonly, threads
from hotrow.table.memory import Growable

MOST_ROWS = 2**31 - 2
BYTES_OF_A_CELL = 12  # a key, and the number of a row
_FEWEST = 8  # buckets
_MOST_A_BUCKET = 4  # on average, of its five cells
_GRAIN = 8192  # keys that are worth a thread
_PACE = 1.5  # old buckets that move on for each new key: they are through before a sixth more keys have come
_STEP = 1024  # and so many at least
_RELEASED = 1 << 16  # buckets whose memory is given back at once: two huge pages


class Index:
    """Which row a key has. Rows are numbered from 0 up; rows of erased keys are given out again, the latest first.

    How cells are laid out, and what a frame is, is told in `kernels/probing.py`. n buckets lie at n … 2n of one array,
    so that each size has its own place, and what a smaller one took is given back to the system.
    """

    def __init__(self) -> None:
        self._begin(_FEWEST)

    def _begin(self, buckets: int) -> None:
        """Empty cells, so many buckets of them."""
        self._space: Growable | None = None
        if buckets:
            self._space = Growable(np.uint64, 2 * _buckets_for(MOST_ROWS) * probing.WORDS)
            self._space.ensure(2 * buckets * probing.WORDS)
        self._mapped = np.zeros(0, np.uint64)
        self._keys: np.ndarray | None = None
        self._frame = np.array([buckets - 1, buckets, buckets - 1, buckets, 0, 0], np.int64)
        self._looked: tuple[Any, Any] = (None, None)
        self._free = np.zeros(0, np.int32)
        self._counts = np.zeros(2, np.int64)
        self._scan: Scan | None = None
        self.version = 0
        """Changes whenever a key gets a row or loses it."""

    @classmethod
    def over(cls, cells: np.ndarray, row_keys: np.ndarray, *, writable: bool) -> Index:
        """The index that these arrays are: copied to be grown, or as they are (memory maps) to be read."""
        index = cls.__new__(cls)
        buckets = len(cells) // probing.WORDS
        index._begin(buckets if writable else 0)
        if writable:
            index._buckets(buckets)[:] = cells
        else:
            index._mapped, index._keys = cells, row_keys
            index._frame[:] = buckets - 1, 0, buckets - 1, 0, 0, 0
        index._counts[0] = len(row_keys)
        return index

    def __len__(self) -> int:
        return self.n_rows - self._n_free

    @property
    def n_rows(self) -> int:
        """How many rows were ever used."""
        return int(self._counts[0])

    @property
    def _n_free(self) -> int:
        """How many of them no key has, the first of `_free`."""
        return int(self._counts[1])

    @property
    def _cells(self) -> np.ndarray:
        """The array in which the frame's buckets lie: take it anew at each use, for growth may replace it."""
        return self._mapped if self._space is None else self._space.array

    def _to_look(self) -> tuple[np.ndarray, np.ndarray]:
        """Cells and frame, read-only: made once, for a small look-up would spend a tenth of its time on it."""
        cells = self._cells
        if self._looked[0] is not cells:
            self._looked = cells, (readonly(cells), readonly(self._frame))
        return self._looked[1]

    def _buckets(self, n: int) -> np.ndarray:
        """The place of n buckets."""
        assert self._space is not None
        return self._space.array[n * probing.WORDS : 2 * n * probing.WORDS]

    def cells(self, keys: np.ndarray) -> np.ndarray:
        """The cells of these keys, which `keys()` gave: a view, or made anew if rows are free or cells on the move.

        uint64 (8 · a power of two,).
        """
        if self._space is None:
            return self._mapped
        if self._is_moving or self.has_holes:
            return cells_of(keys)
        return self._buckets(int(self._frame[probing.MASK]) + 1)

    def keys(self) -> np.ndarray:
        """The key of each row in use, in the order of `rows()`: uint64 (len(self),)."""
        if self._keys is not None:
            return self._keys
        keys = np.zeros(self.n_rows, np.uint64)
        for base, buckets in self.places():
            self.read_keys(base, 0, buckets, keys)
        return keys[self.rows()] if self.has_holes else keys

    @property
    def nbytes(self) -> int:
        """Bytes of the cells."""
        buckets = self._frame[probing.MASK] + 1
        return int(8 * probing.WORDS * (buckets + (self._frame[probing.OLD_MASK] + 1) * self._is_moving))

    def room(self) -> int:
        """How many keys the cells would hold if all were used; they are at most four fifths full."""
        return probing.CELLS * (int(self._frame[probing.MASK]) + 1)

    def rows(self) -> np.ndarray:
        """The rows in use, ascending: int32 (len(self),)."""
        used = np.ones(self.n_rows, bool)
        used[self._free[: self._n_free]] = False
        return np.flatnonzero(used).astype(np.int32)

    @property
    def has_holes(self) -> bool:
        """Whether some row below `n_rows` is free."""
        return self._n_free > 0

    def find(self, keys: np.ndarray) -> tuple[np.ndarray, int]:
        """The row of each key, −1 where it has none, and how many have none: uint64 (n,) → int32 (n,)."""
        rows = np.empty(len(keys), np.int32)
        bounds = threads.even(len(keys), _GRAIN)
        return rows, _total(threads.run(probing.find, bounds, *self._to_look(), self.n_rows, readonly(keys), rows))

    def fetch(self, keys: np.ndarray, data: np.ndarray, stride: int, out: np.ndarray) -> tuple[np.ndarray, int]:
        """As `find`, and the weights of each row, or zeros, to out float32 (n, dim); data is that of `Rows`."""
        rows = np.empty(len(keys), np.int32)
        arrays = *self._to_look(), self.n_rows, readonly(keys), readonly(data)
        bounds = threads.even(len(keys), _GRAIN // 4)
        return rows, _total(threads.run(probing.fetch, bounds, *arrays, stride, out.shape[1], rows, *lines(out)))

    def touched(self, keys: np.ndarray, origin: int, chunk: int, out: np.ndarray) -> None:
        """Set out[c], uint8, where a look-up of keys reads chunk c of a file in which cells begin at `origin`."""
        probing.touched(*self._to_look(), readonly(keys), origin, chunk, out)

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
        if self._is_moving:
            self._move_on(max(_STEP, int(_PACE * new)))
        probing.insert(self._cells, readonly(self._frame), readonly(keys), rows, self._free, self._counts)
        self.version += 1

    def scan(self) -> Scan:
        """Begin to read the key of each row there is now, a part at a time, while keys come and go."""
        self._scan = Scan(self)
        return self._scan

    def end_scan(self, scan: Scan) -> None:
        """A scan has read all."""
        if self._scan is scan:
            self._scan = None

    def free_rows(self) -> np.ndarray:
        """The rows below `n_rows` that no key has: int32, in no order."""
        return self._free[: self._n_free].copy()

    def places(self) -> list[tuple[int, int]]:
        """Where keys stand, (base, buckets): those that move on first, then those they move to."""
        mask, base, old_mask, old_base, *_ = self._frame.tolist()
        return [(old_base, old_mask + 1)] * self._is_moving + [(base, mask + 1)]

    def read_keys(self, base: int, start: int, stop: int, out: np.ndarray) -> None:
        """Write the keys of some buckets to out uint64 (rows,), by their rows; those beyond its end are left out."""
        cells = readonly(self._cells)
        threads.run(probing.keys_of, [start + at for at in threads.even(stop - start, _GRAIN)], cells, base, out)

    def erase(self, keys: np.ndarray, rows: np.ndarray) -> None:
        """Forget keys that are there, all distinct, and free their rows."""
        if self._scan is not None:  # what was pushed on moves back, perhaps to where the scan has been
            self._scan.finish()
        probing.erase(self._cells, readonly(self._frame), readonly(keys))
        self._free = np.concatenate([self._free[: self._n_free], rows.astype(np.int32)])
        self._counts[1] = len(self._free)
        self.version += 1

    # --- growth: see `kernels/probing.py` ----------------------------------------------------------------------------

    @property
    def _is_moving(self) -> bool:
        return bool(self._frame[probing.MASK] != self._frame[probing.OLD_MASK])

    def _make_room(self, n: int) -> None:
        """Begin to move on to more buckets, if n keys are too many for those there are."""
        buckets = int(self._frame[probing.MASK]) + 1
        if n <= _MOST_A_BUCKET * buckets:
            return
        self.settle()
        more = _buckets_for(n)
        assert self._space is not None
        self._space.ensure(2 * more * probing.WORDS)
        first = probing.open_bucket(readonly(self._cells), buckets - 1, buckets) + 1
        self._frame[:] = more - 1, more, buckets - 1, buckets, first & (buckets - 1), 0

    def _move_on(self, least: int) -> None:
        before = int(self._frame[probing.MOVED])
        probing.move(self._cells, self._frame, least)
        mask, base, old_mask, old_base, origin, moved = self._frame.tolist()
        if moved > old_mask:
            self._frame[:] = mask, base, mask, base, 0, 0
            self._release(old_base, 2 * old_base)
        else:  # but for those at the origin, to which what doesn't fit into the last ones goes
            first = max((origin + before) // _RELEASED, origin // _RELEASED + 1) * _RELEASED
            last = min((origin + moved) // _RELEASED * _RELEASED, old_mask + 1)
            self._release(old_base + first, old_base + last)

    def _release(self, start: int, stop: int) -> None:
        """Give the memory of buckets that are empty for good back to the system."""
        if self._space is not None and stop > start:
            self._space.release(start * probing.WORDS, stop * probing.WORDS)

    def settle(self) -> None:
        """Move all that is still to move, at once."""
        if self._is_moving:
            self._move_on(int(self._frame[probing.OLD_MASK]) + 1)


class Scan:
    """The key of each row that an index had at one moment, read a part at a time while it goes on.

    Keys only move on, from the buckets that are gone through first to those that come later: so none is missed. Where
    keys are erased, they may move back, and `Index.erase` ends the scan before.
    """

    def __init__(self, index: Index) -> None:
        self.keys = np.zeros(index.n_rows, np.uint64)
        """The key of each row, 0 of those not read yet: uint64 (rows,)."""
        self._index: Index | None = index
        self._done: set[int] = set()
        self._base, self._buckets, self._at = -1, 0, 0

    def advance(self, buckets: int) -> bool:
        """Read about so many buckets more; False when all are. The caller keeps others from changing the index."""
        while self._index is not None and buckets > 0:
            if self._at == self._buckets and not self._next_place(self._index):
                break
            stop = min(self._buckets, self._at + buckets)
            self._index.read_keys(self._base, self._at, stop, self.keys)
            buckets -= stop - self._at
            self._at = stop
        return self._index is not None

    def finish(self) -> None:
        """Read all that is left."""
        while self.advance(1 << 40):
            pass

    def _next_place(self, index: Index) -> bool:
        """Go on to the buckets that keys move on to, if there are some that this hasn't gone through."""
        for base, buckets in index.places():
            if base not in self._done:
                self._done.add(base)
                self._base, self._buckets, self._at = base, buckets, 0
                return True
        index.end_scan(self)
        self._index = None
        return False


def _total(counts: list[Any]) -> int:
    return int(sum(counts))


def bytes_for(n: int) -> int:
    """Bytes of the cells of an index of n keys: 64 for each four keys, and up to twice that, for it doubles.

    >>> bytes_for(4_000_000) / 4_000_000
    16.777216
    """
    return 8 * probing.WORDS * _buckets_for(n)


def _buckets_for(n: int) -> int:
    """How many buckets n keys need: a power of two."""
    return max(_FEWEST, 1 << (-(-n // _MOST_A_BUCKET) - 1).bit_length())


def cells_of(keys: np.ndarray) -> np.ndarray:
    """A fresh index over `keys` (uint64 (n,), distinct), key i at row i: uint64 (8 · a power of two,)."""
    words = _buckets_for(len(keys)) * probing.WORDS
    space = Growable(np.uint64, words)  # begins with a page, and so with a cache line
    space.ensure(words)
    mask = words // probing.WORDS - 1
    frame = np.array([mask, 0, mask, 0, 0, 0], np.int64)
    probing.fill(space.array, readonly(frame), readonly(keys), 0, len(keys))
    return space.array[:words]
