"""The Batch of codes whose rows are all known: vectors at once, and which ids are the same by the time it matters."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future
from typing import Any

import numpy as np

from hotrow.kernels import threads
from hotrow.table.batch import Bags, Batch, Distinct, Groups


class CodeBatch(Batch):
    """As a Batch, but duplicates are looked for when they are first asked for, or on another thread before that.

    A forward pass needs the row of each id and no more. Duplicates matter when gradients come back, so they are found
    while the framework calculates what lies between.
    """

    __slots__ = ("_all", "_future", "_keys_at", "_known", "_padded")

    def __init__(
        self,
        table: Any,
        which: np.ndarray,
        rows: np.ndarray,
        keys_at: Callable[[np.ndarray], np.ndarray],
        name: Callable[[int], str],
        *,
        bags: Bags | None = None,
        padded: bool = False,
    ) -> None:
        # which int64, of any shape: a number for each id, the same for the same, −1 for padding; rows int (n,): its
        # row; keys_at: positions int32 (m,) to the keys uint64 (m,) of the ids there
        self.table, self._name, self.bags, self._padded = table, name, bags, padded
        self.shape = which.shape if bags is None else (len(bags),)
        self.winners = self.forgotten = self.source = None
        self.complete = not padded
        self._all, self._keys_at, self._known = (which.reshape(-1), rows), keys_at, True
        self._future: Future[tuple[Distinct, Groups]] | None = None
        table.watch(self)

    def whole(self) -> np.ndarray | None:
        """Each id's row, −1 for padding, as long as none was forgotten."""
        return self._all[1] if self._known else None

    def prepare(self) -> None:
        """Look for duplicates, on another thread."""
        self._future = threads.later(self._resolve)

    def _resolve(self) -> tuple[Distinct, Groups]:
        unique = Distinct.of(self._all[0].view(np.uint64))
        distinct = Distinct(unique.inverse, unique.first, self._keys_at(unique.first))
        return distinct, Groups.of(distinct.inverse, len(distinct.first))

    def _resolved(self) -> tuple[Distinct, Groups]:
        if self._future is None:
            self._future = Future()
            self._future.set_result(self._resolve())
        return self._future.result()

    def groups(self) -> Groups:
        """Where each distinct id stands in the batch."""
        return self._resolved()[1]

    def mark(self, rows: np.ndarray) -> None:
        """Note that `rows` were forgotten."""
        which, own = self._all
        gone = np.isin(own, rows)
        if gone.any():
            self._known = self.complete = False
            self._all = which, np.where(gone, np.int32(-1), own)
            first = self.first
            forgotten = gone[first]
            self.forgotten = forgotten if self.forgotten is None else self.forgotten | forgotten

    def __len__(self) -> int:
        """The number of ids, duplicates counted."""
        return len(self._all[0])

    @property
    def rows(self) -> np.ndarray:
        """Each id's row, −1 for one that was forgotten: int (n,), of the table's row_dtype."""
        return self._all[1]

    def places_of_padding(self) -> np.ndarray | None:
        """As of a Batch."""
        return self._all[0] < 0 if self._padded else None

    @property
    def padding(self) -> np.ndarray | None:
        """As of a Batch."""
        return self._all[0][self.first] < 0 if self._padded else None

    @property
    def inverse(self) -> np.ndarray:
        """As of a Batch."""
        return self._resolved()[0].inverse

    @property
    def first(self) -> np.ndarray:
        """As of a Batch."""
        return self._resolved()[0].first

    @property
    def keys(self) -> np.ndarray:
        """As of a Batch."""
        return self._resolved()[0].keys

    @property
    def distinct(self) -> np.ndarray:
        """As of a Batch."""
        return self._all[1][self.first]
