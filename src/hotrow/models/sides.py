"""One side of what a folder holds: ids and their vectors, looked up one by one or listed whole."""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import cached_property
from threading import RLock
from typing import TYPE_CHECKING, Any

import numpy as np

from hotrow.errors import ArgumentError, IdError, UnknownIdError
from hotrow.models.features import Feature
from hotrow.models.spelling import alike
from hotrow.models.towers import all_vectors, vectors
from hotrow.table.initializers import Zeros
from hotrow.table.table import Table

if TYPE_CHECKING:
    from hotrow.models.retrieval import Retrieval
    from hotrow.store.opened import SnapshotView
    from hotrow.table.view import View

_INTEGER = re.compile(r"-?[0-9]{1,20}")


def parsed(text: str, kind: str | None) -> Any:
    """What was typed, as an id of a kind: "int64", "uint64" or "string". IdError for what can't be one."""
    if kind == "string":
        return text
    if not _INTEGER.fullmatch(text):
        raise IdError(f"ids here are integers ({kind}); got {text!r:.100}")
    return int(text)


class Vectors:
    """The ids of one side and a vector for each; any number of threads may ask.

    name  "item", "user", "id" or a column's
    kind  "int64", "uint64" or "string"
    dim   floats a vector

    >>> from hotrow.models import Vectors
    >>> lamps = Vectors.of(["lantern", "cup"], [[1.0, 0.0], [0.0, 1.0]])
    >>> lamps.lookup(["cup"]).tolist(), lamps.rows(["cup", "teapot"]).tolist(), lamps.alike("lantren")
    ([[0.0, 1.0]], [1, -1], ['lantern'])
    """

    def __init__(self, name: str, kind: str | None, dim: int) -> None:
        self.name, self.kind, self.dim = name, kind or "string", dim
        self._lock = RLock()

    @classmethod
    def of(cls, ids: Any, vectors: Any, name: str = "id") -> Vectors:
        """Of ids in any form that tables take, and float32 (n, dim). ArgumentError for other numbers of the two, and
        for an id that is there twice.
        """
        return _Listed(name, ids, vectors)

    def __len__(self) -> int:
        return len(self.ids())

    def __repr__(self) -> str:
        return f"<Vectors of {len(self):,} {self.name}s ({self.kind}) × {self.dim}>"

    def __contains__(self, id: object) -> bool:
        try:
            return bool(self.rows([id])[0] >= 0)
        except (TypeError, ValueError):  # what can't be an id here isn't one
            return False

    def ids(self) -> Any:
        """All ids, in the order of rows: int64 or uint64 (n,), or an Arrow array of strings."""
        return self._all[0]

    def vectors(self) -> np.ndarray:
        """All vectors, in the order of `ids()`: float32 (n, dim), C-contiguous and read-only."""
        return self._all[1]

    def lookup(self, ids: Any) -> np.ndarray:
        """The vectors of ids: float32 (n, dim). UnknownIdError for ids without a row, naming the first."""
        raise NotImplementedError

    def looked_up(self, ids: Any) -> tuple[np.ndarray, str | None]:
        """What `lookup` gives, and the stamp of the save it is of; None: of the folder's own, which doesn't move on."""
        return self.lookup(ids), None

    def missing(self, ids: Any) -> np.ndarray:
        """Which of these ids `lookup` wouldn't find: bool (n,)."""
        return self.rows(ids) < 0

    def listed_ids(self) -> Any:
        """As `ids`, and no vectors are read for it, which may be more than the memory takes; nothing is kept."""
        return self.ids()

    def check(self) -> None:
        """Compare what is on disk of them with its checksums, so that a lookup needn't. CorruptError names the file."""

    def rows(self, ids: Any) -> np.ndarray:
        """Where ids are in `ids()`: int64 (n,), −1 for one that isn't there."""
        found = self._positions.find(ids).rows.astype(np.int64)
        return found.reshape(-1)

    def parse(self, text: str) -> Any:
        """What was typed, as an id of this side's kind. IdError for what can't be one."""
        return parsed(text, self.kind)

    def alike(self, id: Any, n: int = 3) -> list[str]:
        """The n ids that are written most like this one, which has no row; none of integers."""
        return alike(self.ids(), id, n) if self.kind == "string" and isinstance(id, str) else []

    @cached_property
    def _all(self) -> tuple[Any, np.ndarray]:
        with self._lock:
            if "_all" not in self.__dict__:
                ids, made = self._list()
                made = np.ascontiguousarray(made, np.float32)
                made.flags.writeable = False
                self.__dict__["_all"] = ids, made
            return self.__dict__["_all"]

    @cached_property
    def _positions(self) -> View:
        """Something that finds ids, with a row for each in the order of `ids()`."""
        with self._lock:
            if "_positions" not in self.__dict__:
                self.__dict__["_positions"] = self._index()
            return self.__dict__["_positions"]

    def _list(self) -> tuple[Any, np.ndarray]:
        raise NotImplementedError

    def _index(self) -> View:
        table, ids = Table(1, initializer=Zeros()), self.ids()
        if len(ids):
            table.find(ids, grow=True)
        return table


class _Listed(Vectors):
    """Arrays in memory."""

    def __init__(self, name: str, ids: Any, vectors: Any) -> None:
        made = np.array(vectors, np.float32)
        table = Table(1, initializer=Zeros())
        count = len(table.find(ids, grow=True))
        if made.ndim != 2 or len(made) != count:
            raise ArgumentError(f"there is a vector for each id; got {count:,} ids and vectors of shape {made.shape}")
        if len(table) < count:
            raise ArgumentError(f"each id has one vector; got {count:,} ids, {len(table):,} of them different")
        super().__init__(name, table.kind, made.shape[1])
        self._given = table.ids(), made
        self.__dict__["_positions"] = table

    def _list(self) -> tuple[Any, np.ndarray]:
        return self._given

    def lookup(self, ids: Any) -> np.ndarray:
        batch = self._positions.find(ids)
        _check_known(batch)
        return self.vectors()[batch.rows]


class _Still(Vectors):
    """A table whose rows stay where they are, and what features add to them."""

    def __init__(self, name: str, table: View, dim: int, features: Sequence[Feature] = ()) -> None:
        super().__init__(name, table.kind, dim)
        self.table, self._features = table, features

    def __len__(self) -> int:
        return len(self.table)

    def lookup(self, ids: Any) -> np.ndarray:
        if not self._features:
            return self.table.lookup(ids, unknown="error").reshape(-1, self.table.dim)[:, : self.dim]
        batch = self.table.find(ids)
        _check_known(batch)
        return vectors(self.table, batch, self._features)[:, : self.dim]

    def listed_ids(self) -> Any:
        return self.table.ids()

    def _list(self) -> tuple[Any, np.ndarray]:
        made = all_vectors(self.table, self._features) if self._features else self.table.vectors()
        return self.table.ids(), made[:, : self.dim]

    def _index(self) -> View:
        return super()._index() if self.table.has_holes else self.table


class _Moving(Vectors):
    """A saved table whose view moves on: looked up as it is, listed once, of one generation."""

    def __init__(self, table: SnapshotView) -> None:
        super().__init__("id", table.kind, table.dim)
        self.table = table

    def __len__(self) -> int:
        return len(self.ids()) if "_all" in self.__dict__ else len(self.table)

    def lookup(self, ids: Any) -> np.ndarray:
        return self.table.lookup(ids, unknown="error").reshape(-1, self.dim)

    def looked_up(self, ids: Any) -> tuple[np.ndarray, str | None]:
        while True:
            before = self.table.stamp
            found = self.lookup(ids)
            if (stamp := self.table.stamp) == before:
                return found, stamp

    def missing(self, ids: Any) -> np.ndarray:
        batch = self.table.find(ids)  # as it is now, and without a list of all ids
        return batch.missing()[batch.inverse].reshape(-1)

    def listed_ids(self) -> Any:
        return self.table.ids()

    def check(self) -> None:
        self.table.check()

    def _list(self) -> tuple[Any, np.ndarray]:
        return self.table.listed()


def _check_known(batch: Any) -> None:
    missing = np.flatnonzero(batch.missing())
    if len(missing):
        more = f", and {len(missing) - 1} more," if len(missing) > 1 else ""
        raise UnknownIdError(f"id {batch.name(int(missing[0]))}{more} has no vector here")


def of_table(name: str, table: View, dim: int | None = None) -> Vectors:
    """Those of a table, or of a view that doesn't move on; of its rows the first `dim` floats."""
    return _Still(name, table, table.dim if dim is None else dim)


def of_folder(table: SnapshotView) -> dict[str, Vectors]:
    """Those of a saved table."""
    return {"id": _Moving(table)}


def of_model(model: Retrieval) -> dict[str, Vectors]:
    """Those of items and users, with what features add to them, and without the items' bias."""
    tables = {"item": model.items, "user": model.users}
    parts = {side: list(model.parts[side].values()) for side in tables}
    return {side: _Still(side, table, model.dim, parts[side]) for side, table in tables.items()}
