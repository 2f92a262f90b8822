"""The way in: ids to vectors, and nothing changes. With `table.py`, the only one that knows the order of the stages.

raw ids ──ids──▶ keys ──index──▶ rows ──pooling──▶ vectors
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, Self, cast
from weakref import WeakSet

import numpy as np

from hotrow.errors import ArgumentError, HotrowError, UnknownIdError
from hotrow.table import ids as ids_
from hotrow.table import initializers
from hotrow.table.batch import Bags, Batch, Distinct, Marked, mark, to_bags
from hotrow.table.index import Index
from hotrow.table.initializers import Initializer
from hotrow.table.locks import ReadersWriter
from hotrow.table.rows import Rows, first_weights
from hotrow.table.state import State
from hotrow.table.strings import Strings, Texts
from hotrow.table.utf8 import buffers

UNKNOWN = ("initial", "zero", "error")
_NO_ROW = "no row; lookup(ids) gives it its first value, lookup(ids, grow=True) a row"


@dataclass(frozen=True)
class Found:
    """The ids of a call, converted and looked up."""

    keys: ids_.Keys
    unique: Distinct
    index_keys: np.ndarray
    rows: np.ndarray
    missing: int


class View:
    """A table to read: `lookup`, `find`, `ids`, `vectors`, `in` and `len`. `hotrow.view(path)` opens one.

    A lookup beside an update of the same table sees each row before or after it, never between.
    """

    dim: int
    kind: str | None
    """"int64", "uint64" or "string"; None until the first id decides it."""
    seed: int
    initializer: Initializer
    row_dtype: type[np.signedinteger[Any]] = np.int32
    """Of row numbers, as in `Batch.distinct`; a table of more rows than one machine holds has int64."""

    lock: ReadersWriter
    _live: WeakSet[Marked]
    """What is to be told of rows that are forgotten."""
    _index: Index
    _rows: Rows
    _strings: Strings

    @classmethod
    def over(cls, state: State) -> Self:
        """The table of these arrays, which are used as they are and never written."""
        view = cls.__new__(cls)
        view._read_config(state.config)
        view._rows = Rows(view.dim, np.zeros(0, np.float32), state.weights.reshape(-1))
        view._open_ids(state, writable=False)
        return view

    def _read_config(self, config: dict[str, Any]) -> None:
        self.dim, self.kind, self.seed = config["dim"], config["ids"], config["seed"]
        self.initializer = initializers.from_config(config["initializer"])
        self.lock, self._live = ReadersWriter(), WeakSet()

    def _open_ids(self, state: State, *, writable: bool) -> None:
        self._index = Index.over(state.cells, state.keys, writable=writable)
        self._strings = Strings()
        if state.strings is not None:
            self._strings = Strings.over(*buffers(state.strings), writable=writable)
            self._read_aliases(state, np.arange(len(state.keys)))

    def _read_aliases(self, state: State, rows: np.ndarray) -> None:
        """Remember which of the strings of `rows` (int (n,), those of the state) go by another key than theirs."""
        if state.config["aliases"]:
            fingerprints = ids_.to_keys(state.strings, "string").keys
            aliased = np.flatnonzero(fingerprints != state.keys)
            texts = self._strings.at(rows[aliased])
            for i, at in enumerate(aliased.tolist()):
                self._strings.aliases.add(texts.bytes(i), int(fingerprints[at]), int(state.keys[at]))

    def settle(self) -> None:
        """Called before anything is read: a table that learns in a framework first takes the steps it still owes."""

    def __len__(self) -> int:
        """The number of ids that have a row."""
        self.settle()
        return len(self._index)

    def __contains__(self, id: object) -> bool:
        try:
            batch = self.find(id)
        except HotrowError:  # what can't be an id here isn't one
            return False
        return len(batch) == 1 and bool(batch.distinct[0] >= 0)

    @property
    def has_holes(self) -> bool:
        """Whether ids were forgotten whose rows no other id has taken: then `vectors()[r]` isn't that of row r."""
        return self._index.has_holes

    def __repr__(self) -> str:
        return f"<{type(self).__name__} of {len(self):,} {self.kind or 'any'} ids × {self.dim}>"

    def find(
        self, ids: Any, *, offsets: Any = None, weights: Any = None, pooling: str | None = None, mask: Any = None
    ) -> Batch:
        """Convert ids and find their rows, once; the Batch goes to `lookup` in their place.

        ids      anything that holds integers or strings, of any shape (see `hotrow.table.ids`)
        offsets  whole numbers (bags + 1,): ids are the values of ragged bags, bag b is ids[offsets[b]:offsets[b + 1]]
        weights  float32 (n,), one for each id of the bags
        pooling  how a bag becomes a vector: "mean" (the default), "sum", "sqrtn" or "max"
        mask     one id that stands for padding: its vector is zeros, and it never gets a row or a gradient

        Raises KindError or IdError for what can't be ids here, ArgumentError for offsets or weights that don't fit.
        """
        return self._find(ids, offsets, weights, pooling, mask)

    def _find(self, ids: Any, offsets: Any, weights: Any, pooling: str | None, mask: Any = None) -> Batch:
        if isinstance(ids, Batch):
            return self._own(ids, offsets)
        keys = ids_.to_keys(ids, self.kind)
        bags = to_bags(offsets, weights, pooling, len(keys.keys))
        with self.lock.reading():
            return self._batch(self._locate(keys, grow=False), bags, self._mask_key(mask, keys))

    def _own(self, batch: Batch, offsets: Any) -> Batch:
        if batch.table is not self:
            raise ArgumentError(f"this Batch was found in another table, {batch.table!r}; use {self!r}.find(ids)")
        if offsets is not None:
            raise ArgumentError("a Batch has its bags from find(ids, offsets=…); give offsets= there")
        return batch

    def _locate(self, keys: ids_.Keys, *, grow: bool) -> Found:
        """Dedupe, then look each distinct key up; strings with one key are told apart."""
        if keys.at is not None:
            return self._locate_once(keys, grow=grow)
        unique = Distinct.of(keys.keys)
        rows, missing = self._index.find(unique.keys)
        self._found(unique.keys, rows)
        if keys.texts is not None:
            found = keys.keys, unique.inverse, unique.first, rows
            apart = self._strings.tell_apart(texts_of(keys), *found, self._has_key, grow)
            if apart is not None:
                split = Distinct.of(apart)
                unique = Distinct(split.inverse, split.first, keys.keys[split.first])
                rows, missing = self._index.find(split.keys)
                self._found(split.keys, rows)
                return Found(keys, unique, split.keys, rows, missing)
        return Found(keys, unique, unique.keys, rows, missing)

    def _found(self, keys: np.ndarray, rows: np.ndarray) -> None:
        """Called with keys (uint64 (n,)) and the rows that they were found to have, before anyone else is told."""

    def _has_key(self, key: int) -> bool:
        return not self._index.find(np.array([key], np.uint64))[1]

    def _locate_once(self, keys: ids_.Keys, *, grow: bool) -> Found:
        """The distinct texts of a dictionary are looked up, and each id has the row of its text."""
        at, first = cast("np.ndarray", keys.at), cast("np.ndarray", keys.first)
        found = self._locate(ids_.Keys(keys.kind, keys.keys[first], first.shape, keys.texts), grow=grow)
        inner = found.unique
        if len(inner.first) == len(first):
            unique = Distinct(at, first, inner.keys)
        else:  # the dictionary has a text twice
            unique = Distinct(inner.inverse[at], first[inner.first], inner.keys)
        return replace(found, keys=keys, unique=unique)

    @staticmethod
    def _mask_key(mask: Any, keys: ids_.Keys) -> np.uint64 | None:
        """The key of the id that stands for padding, among ids of this kind."""
        return None if mask is None else ids_.to_keys([mask], keys.kind or None).keys[0]

    def _batch(self, found: Found, bags: Bags | None, mask: np.uint64 | None = None) -> Batch:
        padding = None if mask is None else found.unique.keys == mask
        if padding is not None:
            found.rows[padding] = -1  # if it was given a row by other means, it isn't looked at
        batch = Batch(self, found.keys.shape, found.unique, found.rows, _namer(found.keys), bags, padding)
        batch.complete, batch.source = padding is None and not found.missing, found.keys
        self.watch(batch)
        return batch

    def watch(self, batch: Marked) -> None:
        """Tell `batch` of rows that are forgotten from now on, for as long as anyone holds it."""
        self._live.add(batch)

    def _mark(self, rows: np.ndarray) -> None:
        """What was found in these rows (int32 (n,)) isn't there any more. The caller holds the write lock."""
        mark(self._live, rows)

    def lookup(
        self,
        ids: Any,
        *,
        unknown: str = "initial",
        out: np.ndarray | None = None,
        offsets: Any = None,
        weights: Any = None,
        pooling: str | None = None,
    ) -> np.ndarray:
        """The vectors of ids, or of a Batch: float32 (*ids.shape, dim), or (bags, dim) with offsets.

        unknown  what an id without a row gets: "initial", the first value that it would have; "zero"; or "error"
        out      float32 of that shape, C-contiguous or columns of a wider matrix that is: written and returned

        offsets, weights and pooling are those of `find`. Raises what `find` raises, and UnknownIdError.

        >>> import hotrow
        >>> table = hotrow.Table(3)
        >>> table.lookup([[1, 2], [3, 1]]).shape
        (2, 2, 3)
        >>> table.lookup(["lantern", "cup", "mug"], offsets=[0, 1, 3]).shape
        (2, 3)
        """
        self.settle()
        if not isinstance(ids, Batch) and offsets is weights is pooling is None:
            keys = ids = ids_.to_keys(ids, self.kind)
            if keys.texts is None and (vectors := self._lookup_integers(keys, unknown, out)) is not None:
                return vectors
        return self._lookup(self._find(ids, offsets, weights, pooling), unknown, out)

    def _lookup_integers(self, keys: ids_.Keys, unknown: str, out: np.ndarray | None) -> np.ndarray | None:
        """Found and copied in one pass: whoever only looks need not know which ids are the same.

        None where that isn't the quicker way: rows that may be on disk are found first, and then fetched together.
        """
        if self._rows.path is not None:
            return None
        _check_unknown(unknown)
        out = self._check_out(out, (*keys.shape, self.dim))
        flat = out.reshape(-1, self.dim)
        with self.lock.reading():
            rows, missing = self._index.fetch(keys.keys, self._rows.data, self._rows.stride, flat)
            self._found(keys.keys, rows)
        if unknown == "zero" or not missing:
            return out
        where = np.flatnonzero(rows < 0)
        if unknown == "error":
            raise _unknown_error(f"{_namer(keys)(int(where[0]))} (position {where[0]})", len(where) - 1, _NO_ROW)
        flat[where] = self._first_values(keys.keys[where])
        return out

    def fetch(
        self, ids: Any, make: Callable[..., Batch], out: np.ndarray | None = None
    ) -> tuple[Batch, np.ndarray] | None:
        """The vectors of integers that all have a row, found and copied in one pass, and a Batch; None for others.

        make(table, rows int32 (n,), keys uint64 (n,), name) gives the Batch of ids in one dimension, in which nobody
        has looked for duplicates. It is called while no row can be forgotten. out: as of `lookup`.
        """
        self.settle()
        keys = ids_.to_keys(ids, self.kind)
        if keys.texts is not None or not len(keys.keys) or self._rows.path is not None:
            return None  # rows that may be on disk are found first, and then fetched together
        out = self._check_out(out, (*keys.shape, self.dim))
        with self.lock.reading():
            vectors = out.reshape(-1, self.dim)
            rows, missing = self._index.fetch(keys.keys, self._rows.data, self._rows.stride, vectors)
            self._found(keys.keys, rows)
            if missing:
                return None
            batch = make(self, rows, keys.keys, _namer(keys))
        batch.shape = keys.shape
        return batch, out

    def _lookup(self, batch: Batch, unknown: str, out: np.ndarray | None) -> np.ndarray:
        _check_unknown(unknown)
        out = self._check_out(out, (*batch.shape, self.dim))
        flat = out.reshape(-1, self.dim)
        with self.lock.reading():
            rows = batch.whole()
            if rows is not None:
                self._fill(batch, rows, np.arange(len(rows), dtype=np.int32), flat)
                return out
            if batch.complete:
                self._fill(batch, batch.distinct, batch.inverse, flat)
                return out
            missing = batch.missing()
            any_missing = bool(missing.any())
            if any_missing and unknown == "error":
                raise unknown_error(batch, missing, _NO_ROW)
            if batch.bags is None or not any_missing:
                self._fill(batch, batch.distinct, batch.inverse, flat)
            else:
                self._pool_unknown(batch, unknown, flat)
            if any_missing and unknown == "initial" and batch.bags is None:
                number = np.cumsum(missing) - 1
                where = np.flatnonzero(missing[batch.inverse])
                flat[where] = self._first_values(batch.keys[missing])[number[batch.inverse[where]]]
        return out

    def _source(self, batch: Batch) -> tuple[Rows, np.ndarray]:
        """Rows in which the vectors of a batch's distinct ids are, and in which of them, int32 (m,), −1 for none."""
        return self._rows, batch.distinct

    def _fill(self, batch: Batch, rows: np.ndarray, inverse: np.ndarray, out: np.ndarray) -> None:
        """The vectors of rows[inverse[i]], or of the bags of these, to out float32 (n or bags, dim)."""
        self._fill_from(self._rows, batch, rows, inverse, out)

    @staticmethod
    def _fill_from(source: Rows, batch: Batch, rows: np.ndarray, inverse: np.ndarray, out: np.ndarray) -> None:
        if batch.bags is None:
            source.gather(rows, inverse, out)
        else:
            batch.winners = batch.bags.pool(source.data, source.stride, source.dim, rows, inverse, out)

    def _pool_unknown(self, batch: Batch, unknown: str, out: np.ndarray) -> None:
        """Pool from a copy of the distinct vectors, in which the unknown ones have theirs."""
        assert batch.bags is not None
        order = np.arange(len(batch.distinct), dtype=np.int32)
        vectors = np.empty((len(order), self.dim), np.float32)
        source, at = self._source(batch)
        source.gather(at, order, vectors)
        if unknown == "initial":
            vectors[batch.missing()] = self._first_values(batch.keys[batch.missing()])
        batch.winners = batch.bags.pool(vectors.reshape(-1), self.dim, self.dim, order, batch.inverse, out)

    def _first_values(self, keys: np.ndarray) -> np.ndarray:
        return first_weights(self.dim, keys, self.seed, self.initializer.kind, self.initializer.numbers())

    def _check_out(self, out: np.ndarray | None, shape: tuple[int, ...]) -> np.ndarray:
        if out is None:
            return np.empty(shape, np.float32)
        flat = out.flags.c_contiguous or (out.ndim == 2 and out.strides[1] == 4 <= out.strides[0])
        if out.shape != shape or out.dtype != np.float32 or not flat or not out.flags.writeable:
            raise ArgumentError(
                f"out must be writable C-contiguous float32 of shape {shape}; got {out.dtype} of shape {out.shape}. "
                f"Try out=np.empty({shape}, np.float32)"
            )
        return out

    def ids(self) -> Any:
        """Every id that has a row, in row order: int64 or uint64 (n,), or an Arrow array of strings."""
        self.settle()
        with self.lock.reading():
            if self.kind == "string":
                return self._strings.take(self._index.rows())
            return ids_.restore(self._index.keys(), self.kind or "int64")

    def vectors(self) -> np.ndarray:
        """Every row's weights, in the order of `ids()`: float32 (n, dim), a copy."""
        self.settle()
        with self.lock.reading():
            return self._rows.matrix(self._index.n_rows)[self._index.rows(), : self.dim]


def texts_of(keys: ids_.Keys) -> Texts:
    """The strings of ids, one for each."""
    assert keys.texts is not None
    return Texts(*buffers(keys.texts), 1, keys.at)


def _namer(keys: ids_.Keys) -> Callable[[int], str]:
    """A function from a position to the id there, as the user would write it."""

    def name(position: int) -> str:
        if keys.texts is None:
            return repr(ids_.restore(keys.keys[position : position + 1], keys.kind or "int64").tolist()[0])
        return repr(texts_of(keys).bytes(position).decode())

    return name


def _check_unknown(unknown: str) -> None:
    if unknown not in UNKNOWN:
        raise ArgumentError(f"unknown must be one of {', '.join(map(repr, UNKNOWN))}; got {unknown!r}")


def unknown_error(batch: Batch, missing: np.ndarray, rest: str) -> UnknownIdError:
    """An error that names the first of the distinct ids that are missing, and says what of it."""
    unknown = np.flatnonzero(missing)
    return _unknown_error(batch.name(int(unknown[0])), len(unknown) - 1, rest)


def _unknown_error(first: str, others: int, rest: str) -> UnknownIdError:
    return UnknownIdError(f"id {first}{f', and {others} more,' if others else ''} has {rest}")
