"""The ids of one batch, converted and found once: what `lookup` and `update` take in place of ids."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol
from weakref import WeakSet

import numpy as np

from hotrow.errors import ArgumentError
from hotrow.kernels import lines, merging, pooling, readonly, threads

if TYPE_CHECKING:
    from collections.abc import Callable

POOLINGS = {"sum": pooling.SUM, "mean": pooling.MEAN, "sqrtn": pooling.SQRTN, "max": pooling.MAX}
_GRAIN = 1 << 17  # floats that are worth a thread


class Marked(Protocol):
    """What remembers rows, and is told when they are forgotten, as a Batch is."""

    def mark(self, rows: np.ndarray) -> None: ...


def mark(live: WeakSet[Marked], rows: np.ndarray) -> None:
    """Tell each of `live` that these rows (int32 (n,)) are forgotten; others may join meanwhile."""
    while True:
        try:
            every = list(live)
        except RuntimeError:  # one has joined just now
            continue
        break
    for each in every:
        each.mark(rows)


class Pending(Protocol):
    """Gradients that a framework has brought and that no step has taken yet."""

    def settle(self) -> None: ...
    def drop(self) -> None: ...


@dataclass(frozen=True)
class Distinct:
    """Which keys of a batch are the same.

        keys    [7, 9, 7, 4]
        inverse [0, 1, 0, 2]    first [0, 1, 3]    keys [7, 9, 4]

    inverse int32 (n,), first int32 (m,), keys uint64 (m,): the distinct keys, in the order they are first seen.
    """

    inverse: np.ndarray
    first: np.ndarray
    keys: np.ndarray

    @classmethod
    def of(cls, keys: np.ndarray) -> Distinct:
        n = len(keys)
        cells = np.empty(1 << max(4, (2 * n - 1).bit_length()), np.int32)
        inverse, first, found = np.empty(n, np.int32), np.empty(n, np.int32), np.empty(n, np.uint64)
        m = merging.distinct(readonly(keys), cells, inverse, first, found)
        return cls(inverse, first[:m], found[:m])


@dataclass(frozen=True)
class Groups:
    """Where each of m distinct ids stands in a batch of n: those of u are items[starts[u] : starts[u + 1]].

        inverse [0, 1, 0, 2]  →  starts [0, 2, 3, 4]    items [0, 2, 1, 3]

    starts int32 (m + 1,), items int32 (n,), in batch order.
    """

    starts: np.ndarray
    items: np.ndarray

    @classmethod
    def of(cls, inverse: np.ndarray, m: int) -> Groups:
        starts, items = np.empty(m + 1, np.int32), np.empty(len(inverse), np.int32)
        merging.group(readonly(inverse), starts, items)
        return cls(starts, items)

    def merge(
        self, gradients: np.ndarray, out: np.ndarray | None = None, among: slice | None = None
    ) -> tuple[np.ndarray, bool]:
        """The sum of each distinct id's gradients, in batch order: float32 (n, dim) → (m, dim); if all are finite.

        out, among: where they are written, if not to a new array, and of which ids alone.
        """
        dim = gradients.shape[1]
        out = np.empty((len(self.starts) - 1, dim), np.float32) if out is None else out
        at = slice(0, len(out)) if among is None else among
        first, n = int(self.starts[at.start]), int(self.starts[at.stop] - self.starts[at.start])
        cuts = [first + cut for cut in threads.even(n, max(1, _GRAIN // dim))[1:-1]]
        bounds = [at.start, *np.searchsorted(self.starts, cuts).tolist(), at.stop]
        flat, apart = lines(gradients)
        arrays = readonly(flat), apart, readonly(self.starts), readonly(self.items)
        return out, all(threads.run(merging.total, bounds, *arrays, out.reshape(-1), dim))


@dataclass(frozen=True)
class Bags:
    """Ragged groups of a batch's ids, each to be made one vector.

        values [a  b  c  d]    offsets [0, 2, 2, 4]    →    bags  {a, b}  {}  {c, d}

    offsets int64 (bags + 1,), weights float32 (n,) or (0,) for none.
    """

    offsets: np.ndarray
    weights: np.ndarray
    mode: int

    def __len__(self) -> int:
        return len(self.offsets) - 1

    def pool(
        self, data: np.ndarray, stride: int, dim: int, rows: np.ndarray, inverse: np.ndarray, out: np.ndarray
    ) -> Any:
        """Write each bag's vector to out (bags, dim); return where the maxima came from (see kernels/pooling.py)."""
        winners = np.empty((len(self) if self.mode == pooling.MAX else 0, dim), np.int32)
        arrays = readonly(data), stride, dim, readonly(rows), readonly(inverse), *self._arrays()
        threads.run(pooling.pool, self._bounds(dim), *arrays, self.mode, *lines(out), winners)
        return winners

    def unpool(self, gradients: np.ndarray, winners: np.ndarray) -> np.ndarray:
        """The gradient of each id, of its bag's gradient: float32 (bags, dim) → (n, dim)."""
        dim = gradients.shape[1]
        out = np.empty((int(self.offsets[-1]), dim), np.float32)
        flat, apart = lines(gradients)
        arrays = readonly(flat), apart, *self._arrays(), self.mode, readonly(winners)
        threads.run(pooling.unpool, self._bounds(dim), *arrays, out)
        return out

    def _arrays(self) -> tuple[np.ndarray, np.ndarray]:
        return readonly(self.offsets), readonly(self.weights)

    def _bounds(self, dim: int) -> list[int]:
        ids = threads.even(int(self.offsets[-1]), max(1, _GRAIN // dim))
        return [0, *np.searchsorted(self.offsets, ids[1:-1]).tolist(), len(self)]


def to_bags(offsets: Any, weights: Any, pooling_name: str | None, n: int) -> Bags | None:
    """Check what the user gave; None if that is no bags at all."""
    if offsets is None:
        if weights is not None or pooling_name is not None:
            raise ArgumentError(
                "weights= and pooling= are for bags: give offsets= too, e.g. lookup(ids, offsets=[0, 2, 4])"
            )
        return None
    if pooling_name is None:
        pooling_name = "mean"
    if pooling_name not in POOLINGS:
        raise ArgumentError(f"pooling must be one of {', '.join(map(repr, POOLINGS))}; got {pooling_name!r}")
    return Bags(_check_offsets(offsets, n), _check_weights(weights, pooling_name, n), POOLINGS[pooling_name])


def _check_offsets(offsets: Any, n: int) -> np.ndarray:
    given = np.asarray(offsets)
    if given.ndim != 1 or given.dtype.kind not in "iu" or len(given) == 0:
        raise ArgumentError(f"offsets must be whole numbers in one dimension; got {given.dtype} of shape {given.shape}")
    checked = np.ascontiguousarray(given, np.int64)
    if checked[0] != 0 or checked[-1] != n or (np.diff(checked) < 0).any():
        raise ArgumentError(
            f"offsets must start at 0, never fall, and end at the number of ids, {n}; got {_short(checked)}. "
            "Bag b is ids[offsets[b]:offsets[b + 1]], so there is one more offset than bags"
        )
    return checked


def _check_weights(weights: Any, pooling_name: str, n: int) -> np.ndarray:
    if weights is None:
        return np.zeros(0, np.float32)
    if pooling_name == "max":
        raise ArgumentError("pooling='max' takes no weights; leave weights= out, or pool by 'sum', 'mean' or 'sqrtn'")
    checked = np.ascontiguousarray(weights, np.float32)
    if checked.shape != (n,):
        raise ArgumentError(f"weights must be one number an id, shape ({n},); got shape {checked.shape}")
    if not np.isfinite(checked).all():
        raise ArgumentError(f"weights must be finite; weight {int(np.argmin(np.isfinite(checked)))} isn't")
    return checked


def to_floats(given: Any, shape: tuple[int, ...], what: str) -> np.ndarray:
    """What the user gave for vectors of this shape: float32 (n, dim), contiguous."""
    array = np.asarray(given)
    if array.shape != shape or array.dtype.kind != "f":
        raise ArgumentError(
            f"{what} must be floating, of shape {shape}, one for each vector; got {array.dtype} of shape {array.shape}"
        )
    return np.ascontiguousarray(array, np.float32).reshape(-1, shape[-1])


def _short(array: np.ndarray) -> str:
    return str(array.tolist()) if len(array) <= 8 else f"[{array[0]}, {array[1]}, …, {array[-1]}]"


class Batch:
    """The rows of a batch's ids. Made by `table.find(ids)`, and good for that table alone.

    shape     of the vectors that come out, without their last axis: that of the ids, or (bags,)
    rows      int32 (n,)   each id's row, −1 for an id that had none
    distinct  int32 (m,)   the rows of the distinct ids, in the order they are first seen
    inverse   int32 (n,)   which of the distinct each id is
    keys      uint64 (m,)  the distinct ids' keys, which first values are drawn from

        ids      [7, 9, 7]
        distinct [0, 1]    inverse [0, 1, 0]    rows [0, 1, 0]

    padding   bool (m,) or None  which of the distinct stands for nothing: zeros, no row, no gradient

    A row that is forgotten meanwhile is marked: `lookup` treats its id as unknown, `update` skips it.
    """

    __slots__ = (
        "__weakref__",
        "_name",
        "bags",
        "complete",
        "distinct",
        "first",
        "forgotten",
        "inverse",
        "keys",
        "padding",
        "shape",
        "source",
        "table",
        "winners",
    )

    def __init__(
        self,
        table: Any,
        shape: tuple[int, ...],
        unique: Distinct,
        distinct: np.ndarray,
        name: Callable[[int], str],
        bags: Bags | None = None,
        padding: np.ndarray | None = None,
    ) -> None:
        self.table = table
        self.shape = shape if bags is None else (len(bags),)
        self.inverse = unique.inverse
        self.first = unique.first
        self.keys = unique.keys
        self.distinct = distinct
        self.bags = bags
        self.padding = padding
        self.winners: np.ndarray | None = None
        self.forgotten: np.ndarray | None = None
        self.complete = False  # True where it is known that each id has a row
        self.source: Any = None  # the Keys that it was found by
        self._name = name

    @property
    def rows(self) -> np.ndarray:
        """Each id's row, −1 for one that had none: int32 (n,)."""
        return self.distinct[self.inverse]

    def __len__(self) -> int:
        """The number of ids, duplicates counted."""
        return len(self.inverse)

    def __repr__(self) -> str:
        return f"<Batch of {len(self)} ids, {len(self.distinct)} distinct, shape {self.shape}>"

    def take(self, positions: Any, *, offsets: Any = None) -> Batch:
        """The batch of the ids at `positions` (whole numbers of any shape) of the flat ids; nothing is hashed again.

        offsets  as those of `find`, into the positions: the batch of bags of these ids, whose vectors are their mean

        >>> import hotrow
        >>> batch = hotrow.Table(4).find(["a", "b", "a"], grow=True)
        >>> batch.take([2, 1]).rows.tolist()
        [0, 1]
        """
        at = np.asarray(positions)
        bags = to_bags(offsets, None, None, at.size)
        if self.bags is not None:
            raise ArgumentError("take() works on ids, and this batch is of bags: find() the ids without offsets=")
        if at.size and (at.dtype.kind not in "iu" or at.min() < 0 or at.max() >= len(self)):
            raise ArgumentError(f"positions must be whole numbers from 0 to {len(self) - 1}; got {positions!r:.60}")
        with self.table.lock.reading():
            numbers = self.inverse[at.reshape(-1).astype(np.intp, copy=False)]
            unique = Distinct.of(numbers.astype(np.uint64))
            chosen = unique.keys.astype(np.intp)
            part = Distinct(unique.inverse, self.first[chosen], self.keys[chosen])
            batch = Batch(self.table, at.shape, part, self.distinct[chosen], self._name, bags)
            if self.forgotten is not None:
                batch.forgotten = self.forgotten[chosen]
            if self.padding is not None:
                batch.padding = self.padding[chosen]
            self.table.watch(batch)
        return batch

    def merge(self, gradients: np.ndarray) -> np.ndarray:
        """The sum of each distinct id's gradients, in batch order: float32 (n, dim) → (m, dim).

        ids [7, 9, 7], gradients [a, b, c]  →  [a + c, b]
        """
        return self.groups().merge(gradients)[0]

    def groups(self) -> Groups:
        """Where each distinct id stands in the batch."""
        return Groups.of(self.inverse, len(self.distinct))

    def whole(self) -> np.ndarray | None:
        """Each id's row, int32 (n,), where it is known without a look that all ids have one; else None."""
        return None

    def prepare(self) -> None:
        """What an update will need may be made ready beside other work."""

    def unrepeated(self) -> Batch:
        """The batch of the distinct ids, each once: shape (m,). Those without a row count as padding in it."""
        every = np.arange(len(self.distinct), dtype=np.int32)
        part = Distinct(every, self.first, self.keys)
        return self._part(every.shape, part, self.distinct)

    @classmethod
    def once(cls, batches: list[Batch]) -> tuple[Batch, np.ndarray]:
        """One Batch of the distinct rows of several, and which of them each batch's are, one batch after the other.

        distinct rows [3, 5] and [5, 8]  →  a Batch of rows [3, 5, 8], and int32 [0, 1, 1, 2]
        """
        rows = np.concatenate([batch.distinct for batch in batches])
        keys = np.concatenate([batch.keys for batch in batches])
        unique = Distinct.of(rows.astype(np.uint64))
        every = np.arange(len(unique.first), dtype=np.int32)
        part = Distinct(every, every, keys[unique.first])
        return batches[0]._part(every.shape, part, rows[unique.first]), unique.inverse

    def _part(self, shape: tuple[int, ...], unique: Distinct, rows: np.ndarray) -> Batch:
        """A batch of distinct ids with these rows."""
        part = Batch(self.table, shape, unique, rows, self._name, padding=rows < 0)
        self.table.watch(part)
        return part

    def mark(self, rows: np.ndarray) -> None:
        """Note that `rows` were forgotten."""
        gone = np.isin(self.distinct, rows)
        if gone.any():
            self.complete = False
            self.forgotten = gone if self.forgotten is None else self.forgotten | gone
            self.distinct = np.where(gone, np.int32(-1), self.distinct)

    def missing(self) -> np.ndarray:
        """Which distinct ids have no row, though they could have one: bool (m,)."""
        missing = self.distinct < 0
        return missing if self.padding is None else missing & ~self.padding

    def places_of_padding(self) -> np.ndarray | None:
        """Which of the ids stand for nothing: bool (n,), or None."""
        return None if self.padding is None else self.padding[self.inverse]

    def name(self, u: int) -> str:
        """How the user would write distinct id `u`, and where it first stands."""
        position = int(self.first[u])
        return f"{self._name(position)} (position {position})"
