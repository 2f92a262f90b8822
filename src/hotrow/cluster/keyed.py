"""What a shard holds: a table that is asked by keys, whose rows carry the numbers that they have in the whole.

A row's number, int64, lies behind the optimizer's slots in the place of two floats: so it is in every snapshot and in
every delta, and goes where its row goes.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from hotrow.store.joining import NUMBER, WIDTH, slot_of
from hotrow.table import ids as ids_
from hotrow.table.batch import Groups
from hotrow.table.changes import Changes
from hotrow.table.kept import Cutting, Saved
from hotrow.table.optimizers import Optimizer
from hotrow.table.state import State
from hotrow.table.table import Table

HOME, SAVES = "home", "saves"
"""Where a shard is written: what has changed is noted for each apart, for each has deltas of its own."""


class Keyed(Table):
    """A part of a table. Its owner makes all changes, one after the other; keys are uint64 (n,), each once."""

    more_slots = {NUMBER: WIDTH}  # noqa: RUF012 — as it is declared above
    _known: np.ndarray | None = None
    _follows = HOME
    _aside: tuple[Saved | None, Changes | None] = None, None
    """Of the place that isn't followed now: what it has, and what has changed since."""
    written: Saved | None = None
    """What the last save that has ended wrote, None if it failed; `saved` forgets it when another optimizer comes."""

    def turn_to(self, place: str) -> None:
        """What is saved next, and `saved`, are about HOME or SAVES. No save is under way."""
        if place != self._follows:
            with self.lock.writing():
                self._follows = place
                self._aside, (self._saved, self._changes) = (self._saved, self._changes), self._aside

    def _end_cut(self, cutting: Cutting, saved: Saved | None) -> None:
        self.written = saved
        super()._end_cut(cutting, saved)

    def _before_change(self, rows: np.ndarray) -> None:
        super()._before_change(rows)
        if self._aside[1] is not None:
            self._aside[1].mark(rows, self._index.n_rows)

    def set_optimizer(self, optimizer: Optimizer, *, fresh: bool = False) -> None:
        """As of `Table`."""
        every, before = np.arange(self._index.n_rows, dtype=np.int32), self._rows
        numbers = self.numbers_of(every)
        super().set_optimizer(optimizer, fresh=fresh)
        if self._rows is not before:  # each row has other slots, and keeps its number; no delta
            self._aside = None, None
            with self.lock.writing():
                self._number(every, numbers)

    def locate(self, keys: np.ndarray, texts: Any) -> tuple[np.ndarray, np.ndarray]:
        """The rows of ids, int32 (n,), −1 for none, and the keys that they go by, which differ where strings collide.

        texts: an Arrow array of their strings, whose fingerprints are `keys`; None where keys are known, or integers.
        """
        if texts is None:
            return self._index.find(keys)[0], keys
        found = self._locate(ids_.Keys("string", keys, keys.shape, texts), grow=False)
        return found.rows[found.unique.inverse], found.index_keys[found.unique.inverse]

    def vectors_of(self, rows: np.ndarray, out: np.ndarray | None = None) -> np.ndarray:
        """The weights of rows (int32 (n,)), zeros for −1: float32 (n, dim), new or in `out`."""
        out = np.empty((len(rows), self.dim), np.float32) if out is None else out
        self._rows.gather(rows, np.arange(len(rows), dtype=np.int32), out)
        return out

    def fetched(self, keys: np.ndarray, out: np.ndarray | None = None) -> tuple[np.ndarray, np.ndarray]:
        """The rows of keys and their weights, in one pass: int32 (n,), float32 (n, dim), new or in `out`."""
        out = np.empty((len(keys), self.dim), np.float32) if out is None else out
        return self._index.fetch(keys, self._rows.data, self._rows.stride, out)[0], out

    def numbers_of(self, rows: np.ndarray) -> np.ndarray:
        """The numbers of rows (int32 (n,)): int64 (n,), −1 for −1."""
        if not self._index.n_rows:
            return np.full(len(rows), -1, np.int64)
        numbers = np.take(self._by_row(), rows, mode="wrap")
        numbers[rows < 0] = -1
        return numbers

    def _by_row(self) -> np.ndarray:
        """The number of each row, also side by side: int64. At the rows themselves each were one more cache miss."""
        n, known = self._index.n_rows, self._known
        if known is None or len(known) < n:
            before = 0 if known is None else len(known)
            grown = np.empty(n + n // 4, np.int64)
            if known is not None:
                grown[:before] = known
            matrix = self._rows.matrix(n)
            grown[before:n] = np.ascontiguousarray(matrix[before:, -WIDTH:]).view(np.int64)[:, 0]
            self._known = known = grown
        return known[:n]

    def admit(self, kind: str, keys: np.ndarray, texts: Any, numbers: np.ndarray) -> None:
        """Give ids that have none their rows, with these numbers, int64 (n,)."""
        with self.lock.writing():
            found = self._locate(ids_.Keys(kind, keys, keys.shape, texts), grow=True)
            new = np.flatnonzero(found.rows < 0)
            self._insert(found)
            self._number(found.rows[new], numbers[found.unique.first[new]])

    def _number(self, rows: np.ndarray, numbers: np.ndarray) -> None:
        matrix = self._rows.matrix(self._index.n_rows)
        matrix[rows, -WIDTH:] = slot_of(numbers)
        if self._known is not None:
            self._by_row()[rows] = numbers

    @property
    def version(self) -> int:
        """Changes whenever a key gets a row or loses it: rows that were found at the same one are still theirs."""
        return self._index.version

    def step(
        self, keys: np.ndarray, gradients: np.ndarray, rate: float, number: int, rows: np.ndarray | None = None
    ) -> None:
        """The owner's step of this number (the first is 1): gradients float32 (n, dim). Keys without a row are left.

        rows: of these keys, int32 (n,), if they are known.
        """
        rows = self._index.find(keys)[0] if rows is None else rows
        every = np.arange(len(rows) + 1, dtype=np.int32)
        if self._cut is not None:  # it is being written: no more of it is copied than memory has room for
            self._cut.wait_for_room(len(rows))
        with self.lock.writing():
            self._steps = number - 1
            self._move(rows, Groups(every, every[:-1]), gradients, rate)

    def put(self, keys: np.ndarray, vectors: np.ndarray) -> None:
        """Give keys that have a row these weights, float32 (n, dim)."""
        rows = self._index.find(keys)[0]
        with self.lock.writing():
            here = rows >= 0
            self._before_change(rows[here])
            self._rows.matrix(self._index.n_rows)[rows[here], : self.dim] = vectors[here]

    def drop(self, keys: np.ndarray) -> None:
        """Take keys out."""
        rows = self._index.find(keys)[0]
        with self.lock.writing():
            here = rows >= 0
            if self._cut is not None:
                self._cut.keep(rows[here])
            for changes in (self._changes, self._aside[1]):
                if changes is not None:
                    changes.erase(keys[here], rows[here], self._index.n_rows)
            self._erase(keys[here], rows[here])

    def sizes(self, rows: np.ndarray) -> dict[str, int]:
        """Bytes that rows (int32 (n,), −1 for none) take, of each part."""
        return self._sizes(rows[rows >= 0])

    def part(self, *, whole: bool) -> State:
        """Its state as it is now, copied; if not whole then keys, numbers, weights and strings. Locked to read."""
        state = self._state()
        slots = {name: np.array(slot) for name, slot in state.slots.items() if whole or name == NUMBER}
        cells = np.array(state.cells) if whole else np.zeros(0, np.uint64)
        return replace(state, keys=np.array(state.keys), weights=np.array(state.weights), cells=cells, slots=slots)

    def glance(self) -> dict[str, Any]:
        """`stats`, without waiting for a change that is being made: whoever only looks on isn't held up by it."""
        return self._stats()

    def counted(self, steps: int) -> None:
        """The owner has taken so many steps, of which this part may have had none."""
        self._steps = steps
