"""A view whose arrays are its own, and which takes changes from a file."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Self

import numpy as np

from hotrow.errors import ArgumentError
from hotrow.table import initializers
from hotrow.table.rows import Rows
from hotrow.table.state import State
from hotrow.table.strings import Texts
from hotrow.table.utf8 import buffers
from hotrow.table.view import View


class Own(View):
    """A table in memory that follows others' changes."""

    @classmethod
    def from_state(cls, state: State) -> Self:
        """The weights and ids of a table, copied."""
        view = cls.__new__(cls)
        view._read_config(state.config)
        view._rows = Rows(view.dim, np.zeros(0, np.float32))
        view._rows.fill(len(state.keys), [(slice(view.dim), state.weights)])
        view._open_ids(state, writable=True)
        return view

    def _slots(self) -> dict[str, slice]:
        """Which columns of a row belong to which slot: none, for whoever only looks."""
        return {}

    def take(self, change: State, taken: Callable[[], None] | None = None) -> None:
        """Become what the table was that a change (see `State.gone`) was saved of. The rows and the index are our own.

        taken: called when it is, before anybody can look again.
        ArgumentError, with nothing changed, for the change of a table of another dim, seed, kind or optimizer.
        """
        gone = self._check_change(change)
        with self.lock.writing():
            self.kind = change.config["ids"]
            found, _ = self._index.find(gone)
            here = found >= 0
            self._erase(gone[here], found[here])
            found, _ = self._index.find(change.keys)
            new = np.flatnonzero(found < 0)
            self._rows.ensure(self._index.n_rows + len(new))
            self._index.insert(change.keys, found)
            if change.strings is not None:
                self._strings.write(found[new], Texts(*buffers(change.strings), 1, new))
                self._read_aliases(change, found)
            matrix = self._rows.matrix(self._index.n_rows)
            matrix[found, : self.dim] = change.weights
            for name, columns in self._slots().items():
                matrix[found, columns] = change.slots[name]
            if taken is not None:
                taken()

    def _check_change(self, change: State) -> np.ndarray:
        """Its `gone`, if it can be a change to this."""
        ours: dict[str, Any] = {
            "dim": self.dim,
            "seed": self.seed,
            "initializer": initializers.to_config(self.initializer),
        }
        if self.kind is not None:
            ours["ids"] = self.kind
        other = {name: change.config[name] for name in ours if change.config[name] != ours[name]}
        if other:
            raise ArgumentError(f"has {other}, and what it is a change to { ({name: ours[name] for name in other}) }")
        if change.gone is None:
            raise ArgumentError("is a whole table and no change")
        change.check_rows(self.dim, {name: columns.stop - columns.start for name, columns in self._slots().items()})
        return change.gone

    def _erase(self, keys: np.ndarray, rows: np.ndarray) -> None:
        """Take out keys (uint64 (n,), distinct); what their rows (int32 (n,)) hold is overwritten. Locked to write."""
        self._rows.matrix(self._index.n_rows)[rows] = 0
        if self.kind == "string":
            self._strings.erase(rows)
        self._index.erase(keys, rows)
        self._mark(rows)
