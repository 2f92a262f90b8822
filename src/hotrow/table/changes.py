"""What of a table has changed since it was saved: rows by a mark each, and keys that have gone."""

from __future__ import annotations

import numpy as np

from hotrow.kernels import readonly, saving
from hotrow.table.memory import Growable

_MOST_ROWS = 2**31


class Changes:
    """Rows that have changed, and keys that were erased, since a moment."""

    def __init__(self) -> None:
        self._marks = Growable(np.uint8, _MOST_ROWS)
        self._gone: list[np.ndarray] = []

    def mark(self, rows: np.ndarray, n_rows: int) -> None:
        """These (int32 (n,), −1 for none) of `n_rows` rows have changed."""
        self._marks.ensure(n_rows)
        saving.mark(readonly(rows), self._marks.array)

    def erase(self, keys: np.ndarray, rows: np.ndarray, n_rows: int) -> None:
        """These keys (uint64 (n,)) are about to go. Marked, too: if they don't, after all, a delta has them again."""
        self.mark(rows, n_rows)
        self._gone.append(keys)

    def marks(self, n_rows: int) -> np.ndarray:
        """A byte for each of `n_rows` rows, not 0 if it has changed, or is free: uint8 (n_rows,), no copy."""
        self._marks.ensure(n_rows)
        return self._marks.array[:n_rows]

    def gone(self) -> np.ndarray:
        """The erased keys, each once, some of which may be back: uint64 (n,)."""
        return np.unique(np.concatenate([np.zeros(0, np.uint64), *self._gone]))

    def absorb(self, older: Changes, n_rows: int) -> None:
        """What `older` has seen before counts, too: the save in between has failed."""
        self.mark(np.flatnonzero(older.marks(n_rows)).astype(np.int32), n_rows)
        self._gone = older._gone + self._gone
