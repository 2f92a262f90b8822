"""The way back, and growth: gradients to rows. Read `view.py` first, for the way in; together they are the library.

How a table is saved beside training stands in `kept.py`.

raw ids ──ids──▶ keys ──index──▶ rows ──pooling──▶ vectors
                                  ▲
                 rows (weights | slots) ◀─ optimizers ◀─ merging ◀─ gradients
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any
from weakref import WeakSet

import numpy as np

from hotrow.errors import ArgumentError
from hotrow.kernels import readonly, threads
from hotrow.table import ids as ids_
from hotrow.table import optimizers
from hotrow.table.batch import Bags, Batch, Groups, to_bags, to_floats
from hotrow.table.index import BYTES_OF_A_CELL, Index
from hotrow.table.initializers import Initializer, Uniform
from hotrow.table.kept import Kept
from hotrow.table.locks import ReadersWriter
from hotrow.table.optimizers import Adam, Optimizer
from hotrow.table.rows import Rows, balance
from hotrow.table.strings import Strings
from hotrow.table.view import Found, texts_of, unknown_error

if TYPE_CHECKING:
    from os import PathLike

KINDS = ("int64", "uint64", "string")


@dataclass(frozen=True)
class Receipt:
    """What `Table.forget` took out.

    asked    distinct ids that were given
    removed  those of them that had a row
    bytes    overwritten, of each part: {"weights": …, "slots": …, "index": …, "strings": …}
    """

    asked: int
    removed: int
    bytes: dict[str, int]


class Table(Kept):
    """A table that learns: new ids get rows, and gradients move them. No vocabulary, no collisions.

    dim          floats a vector
    optimizer    hotrow.SGD, Adagrad, Adam, … (see `hotrow.table.optimizers`); Adam(1e-3) if not given
    initializer  hotrow.Uniform (0.05, if not given), Normal, TruncatedNormal, Constant or Zeros
    seed         first values are a function of it and of the id, whatever the order in which ids arrive
    ids          "int64", "uint64" or "string"; else the first ids that get a row decide
    path         a folder: rows live in a file there, as many as the disk holds, those in use in memory (docs/bigger.md)

    Any number of threads may look up while one updates. Raises ArgumentError for arguments that can't be right.

    >>> import hotrow, numpy as np
    >>> table = hotrow.Table(2, optimizer=hotrow.SGD(0.5), initializer=hotrow.Zeros())
    >>> batch = table.find(["lantern", "cup", "lantern"], grow=True)
    >>> table.update(batch, np.ones((3, 2), np.float32))
    >>> table.lookup(["cup", "lantern"]).tolist()
    [[-0.5, -0.5], [-1.0, -1.0]]
    """

    def __init__(
        self,
        dim: int,
        *,
        optimizer: Optimizer | None = None,
        initializer: Initializer | None = None,
        seed: int = 0,
        ids: str | None = None,
        path: str | PathLike[str] | None = None,
    ) -> None:
        self._configure(dim, optimizer, initializer, seed, ids)
        self.lock, self._live = ReadersWriter(), WeakSet()
        self._index = Index()
        self._strings = Strings()
        self._begin(Rows(self.dim, self._first_slots(self.optimizer), path=path), 0)

    def _configure(
        self, dim: int, optimizer: Optimizer | None, initializer: Initializer | None, seed: int, ids: str | None
    ) -> None:
        """Take what a table is told, if it can be."""
        if isinstance(dim, bool) or not isinstance(dim, int | np.integer) or dim < 1:
            raise ArgumentError(
                f"dim must be a whole number from 1 on, the length of a vector; got {dim!r}. Try Table(32)"
            )
        if isinstance(seed, bool) or not isinstance(seed, int | np.integer) or not 0 <= seed < 2**64:
            raise ArgumentError(f"seed must be a whole number from 0 to 2**64 − 1; got {seed!r}")
        if ids is not None and ids not in KINDS:
            raise ArgumentError(f"ids must be one of {', '.join(map(repr, KINDS))}, or None to infer it; got {ids!r}")
        self._check_seam(optimizer, Optimizer, "optimizer=hotrow.Adam(1e-3)")
        self._check_seam(initializer, Initializer, "initializer=hotrow.Uniform(0.05)")
        self.dim, self.kind, self.seed = int(dim), ids, int(seed)
        self.optimizer = optimizer or Adam()
        self.initializer = initializer or Uniform()

    @staticmethod
    def _check_seam(given: Any, kind: type, example: str) -> None:
        if given is not None and not isinstance(given, kind):
            raise ArgumentError(
                f"expected one of hotrow's own {kind.__name__.lower()}s, as in {example}; got {given!r}"
            )

    def settle(self) -> None:
        """Take the steps that are still owed: a framework's optimizer has stepped, and the table's rows have not."""
        if self.pending is not None:
            self.pending.settle()

    @property
    def steps(self) -> int:
        """How many updates the table has taken; Adam's bias correction counts them."""
        self.settle()
        return self._steps

    @property
    def path(self) -> Path | None:
        """The folder where the rows' file is, which has no name; None if they are in memory."""
        return self._rows.path

    def find(
        self,
        ids: Any,
        *,
        grow: bool = False,
        offsets: Any = None,
        weights: Any = None,
        pooling: str | None = None,
        mask: Any = None,
    ) -> Batch:
        """As `View.find`; with `grow=True` new ids get their row, the first of them also deciding the kind of ids.

        So do those of a Batch that was found without, perhaps ahead of its step (`hotrow.ahead`).
        """
        if not grow:
            return self._find(ids, offsets, weights, pooling, mask)
        if isinstance(ids, Batch):
            return self._regrow(self._own(ids, offsets))
        self.settle()
        keys = ids_.to_keys(ids, self.kind)
        bags = to_bags(offsets, weights, pooling, len(keys.keys))
        with self.lock.reading():
            found, moment = self._look(keys), self._moment(keys)
            if self.kind is not None and not found.missing:
                return self._batch(found, bags, self._mask_key(mask, keys))
        with self.lock.writing():
            if self.kind not in (None, keys.kind) and len(keys.keys):  # another thread decided meanwhile
                keys = ids_.to_keys(ids, self.kind)
            padding = self._mask_key(mask, keys)
            if keys is not found.keys or moment != self._moment(keys):
                found = self._locate(keys, grow=True)
            return self._batch(self._insert(found, padding), bags, padding)

    def _look(self, keys: ids_.Keys) -> Found:
        """What is there of ids that are to have a row."""
        return self._locate(keys, grow=False)

    def _moment(self, keys: ids_.Keys) -> tuple[Any, ...]:
        """Another one when what `_look` has found may be otherwise by now: strings that collide are kept apart anew."""
        return self._index, self._index.version, None if keys.texts is None else object()

    def _batch(self, found: Found, bags: Bags | None, mask: np.uint64 | None = None) -> Batch:
        batch = super()._batch(found, bags, mask)
        self._rows.expect(batch.distinct)
        return batch

    def _regrow(self, batch: Batch) -> Batch:
        """A batch that was found before, in which each id has its row now."""
        if batch.complete or not batch.missing().any():
            return batch
        if batch.source is None:
            raise ArgumentError("this part of a Batch has ids without a row: use find(ids, grow=True) before take()")
        keys = ids_.to_keys(batch.source, self.kind)
        padding = None if batch.padding is None else next(iter(batch.keys[batch.padding]), None)
        with self.lock.writing():
            return self._batch(self._insert(self._locate(keys, grow=True), padding), batch.bags, padding)

    def _insert(self, found: Found, padding: np.uint64 | None = None) -> Found:
        """Give the ids that have none their rows, but for `padding`; the caller holds the write lock."""
        keys = found.keys
        if not len(keys.keys):
            return found
        if padding is not None:
            found.rows[found.unique.keys == padding] = 0  # any row will do: it isn't new
        new = np.flatnonzero(found.rows < 0) if found.missing else np.zeros(0, np.int64)
        self._rows.ensure(self._index.n_rows + len(new))
        self.kind = keys.kind
        if len(new):
            try:
                self._give_rows(found, new)
            except BaseException:  # a Ctrl-C: no id has a row that wasn't begun
                rows = found.rows[new]
                self._index.erase(found.index_keys[new][rows >= 0], rows[rows >= 0])
                raise
        return replace(found, missing=0)

    def _give_rows(self, found: Found, new: np.ndarray) -> None:
        self._index.insert(found.index_keys, found.rows)
        rows, keys = found.rows[new], found.unique.keys[new]
        self._before_change(rows)
        self._rows.start(rows, keys, self.seed, self.initializer.kind, self.initializer.numbers())
        if found.keys.texts is not None:
            self._strings.write(rows, texts_of(found.keys).take(found.unique.first[new]))

    def lookup(
        self,
        ids: Any,
        *,
        grow: bool = False,
        unknown: str = "initial",
        out: np.ndarray | None = None,
        offsets: Any = None,
        weights: Any = None,
        pooling: str | None = None,
    ) -> np.ndarray:
        """As `View.lookup`; with `grow=True`, for training, new ids get their row. Without, nothing changes."""
        if not grow:
            return super().lookup(ids, unknown=unknown, out=out, offsets=offsets, weights=weights, pooling=pooling)
        return self._lookup(self.find(ids, grow=True, offsets=offsets, weights=weights, pooling=pooling), unknown, out)

    def update(
        self,
        ids: Any,
        gradients: Any,
        *,
        learning_rate: float | None = None,
        offsets: Any = None,
        weights: Any = None,
        pooling: str | None = None,
    ) -> None:
        """One optimizer step on the rows of ids, or of a Batch; duplicates are summed, in batch order, first.

        gradients      floating, (*ids.shape, dim), or (bags, dim) with offsets
        learning_rate  for this step in place of the optimizer's

        Rows forgotten since the Batch was found are skipped. Raises UnknownIdError, with nothing changed, for an id
        that never had a row, and ArgumentError for gradients of another shape or kind.
        """
        self.settle()
        batch = self._find(ids, offsets, weights, pooling)
        flat = to_floats(gradients, (*batch.shape, self.dim), "gradients")
        rate = self.optimizer.rate(learning_rate)
        flat = self.unpool(batch, flat)
        self._make_room(batch)
        with self.lock.writing():
            self._check_known(batch)
            if len(batch):
                self._step(batch, flat, rate)

    def _make_room(self, batch: Batch) -> None:
        """Wait, without a lock, until a step of this batch may be taken without waiting."""
        cut = self._cut
        if cut is not None:
            cut.wait_for_room(len(batch.distinct))

    def _check_known(self, batch: Batch) -> None:
        if batch.complete:
            return
        missing = batch.missing()
        if batch.forgotten is not None:
            missing &= ~batch.forgotten
        if missing.any():
            way = "no row to update, and nothing was changed; find(ids, grow=True) gives it one"
            raise unknown_error(batch, missing, way)

    def unpool(self, batch: Batch, gradients: np.ndarray) -> np.ndarray:
        """The gradient of each id, float32 (n, dim), of those of a batch's vectors, the same or (bags, dim)."""
        if batch.bags is None:
            return gradients
        if batch.winners is None:  # nobody looked: the maxima are where they are now
            self._lookup(batch, "initial", None)
        assert batch.winners is not None
        return batch.bags.unpool(gradients, batch.winners)

    def _step(self, batch: Batch, gradients: np.ndarray, rate: float) -> None:
        self._move(batch.distinct, batch.groups(), gradients, rate)

    def _move(self, rows: np.ndarray, groups: Groups, gradients: np.ndarray, rate: float) -> None:
        """One step of rows (int32 (m,), −1 for none), by the gradients of each one's group. Locked to write."""
        numbers = self.optimizer.numbers(self._steps + 1, rate)
        bounds = balance(groups.starts, self._rows.stride, self.dim)
        arrays = map(readonly, (rows, groups.starts, groups.items, gradients.reshape(-1), numbers))
        self._before_change(rows)
        self._steps += 1
        threads.run(self.optimizer.kernel, bounds, self._rows.data, self._rows.stride, self.dim, *arrays)

    def set(self, ids: Any, vectors: Any) -> None:
        """Give ids these vectors, floating (*ids.shape, dim): pre-trained weights, migration. New ids get their row.

        What the optimizer keeps for a row stays as it is. Of two vectors for one id, the later stays.
        Raises ArgumentError for vectors of another shape or not finite.
        """
        batch, flat = self._to_set(ids, vectors)
        with self.lock.writing():
            self._check_known(batch)
            self._before_change(batch.distinct)
            self._rows.scatter(batch.distinct, batch.inverse, flat)

    def _to_set(self, ids: Any, vectors: Any) -> tuple[Batch, np.ndarray]:
        """The batch of ids that vectors are for, and the vectors, one for each id."""
        shape = ids.shape if isinstance(ids, Batch) else ids_.to_keys(ids, self.kind).shape
        flat = to_floats(vectors, (*shape, self.dim), "vectors")
        if not np.isfinite(flat).all():
            raise ArgumentError(
                f"vectors must be finite; the one at position {int(np.argmin(np.isfinite(flat).all(1)))} isn't"
            )
        return self.find(ids, grow=True), flat

    def constrain(self, batch: Batch, function: Callable[[np.ndarray], np.ndarray]) -> None:
        """Replace the vectors of a batch's rows, float32 (m, dim), by what `function` makes of them."""
        with self.lock.writing():
            matrix, rows = self._rows.matrix(self._index.n_rows), batch.distinct[batch.distinct >= 0]
            self._before_change(rows)
            matrix[rows, : self.dim] = function(matrix[rows, : self.dim])

    def forget(self, ids: Any) -> Receipt:
        """Take ids out: weights, slots and strings are overwritten, the rows given to later ids.

        An id that has no row is no error. A Batch that holds a forgotten row treats its id as unknown from now on. What
        was saved before still has them: the next `save` or `save_delta` hasn't, and `hotrow forget … --rewrite` takes
        them out of all that is kept.

        >>> import hotrow
        >>> table = hotrow.Table(4)
        >>> _ = table.lookup(["ann", "bob"], grow=True)
        >>> receipt = table.forget(["ann", "who"])
        >>> receipt.asked, receipt.removed, receipt.bytes["weights"]
        (2, 1, 16)
        """
        self.settle()
        keys = ids_.to_keys(ids, self.kind)
        with self.lock.writing():
            found = self._locate(keys, grow=False)
            here = found.rows >= 0
            rows = found.rows[here]
            receipt = Receipt(len(here), len(rows), self._sizes(rows))
            if self._cut is not None:
                self._cut.keep(rows)
            if self._changes is not None:
                self._changes.erase(found.index_keys[here], rows, self._index.n_rows)
            self._erase(found.index_keys[here], rows)
        return receipt

    def _sizes(self, rows: np.ndarray) -> dict[str, int]:
        """Bytes that rows take, of each part."""
        sizes = {"weights": 4 * self.dim * len(rows), "slots": 4 * (self._rows.stride - self.dim) * len(rows)}
        sizes["index"] = BYTES_OF_A_CELL * len(rows)
        if self.kind == "string":
            sizes["strings"] = int(self._strings.at(rows).offsets()[-1])
        return sizes

    def stats(self) -> dict[str, Any]:
        """What the table holds: rows, bytes of each part, bytes a row, steps, how full the index is."""
        self.settle()
        with self.lock.reading():
            return self._stats()

    def _stats(self) -> dict[str, Any]:
        n, rows = self._index.n_rows, len(self._index)
        parts = {"rows": 4 * n * self._rows.stride, "index": self._index.nbytes}
        if self.kind == "string":
            parts["strings"] = self._strings.nbytes + 16 * n
        facts = {"ids": self.kind, "rows": rows, "dim": self.dim, "optimizer": optimizers.to_config(self.optimizer)}
        total = sum(parts.values())
        return facts | {
            "steps": self._steps,
            "bytes": total,
            "bytes_per_row": total / rows if rows else 0.0,
            "bytes_of": parts,
            "index_load": rows / self._index.room(),
        }

    def set_optimizer(self, optimizer: Optimizer, *, fresh: bool = False) -> None:
        """Train with another optimizer from now on: weights stay, slots and the count of steps begin anew.

        One of the same kind, with the same slots and other numbers, goes on where the old one was, if not `fresh`.
        """
        self._check_seam(optimizer, Optimizer, "optimizer=hotrow.Adam(1e-3)")
        self.settle()
        with self.lock.writing():
            old, widths = self.optimizer, optimizer.slot_widths(self.dim)
            first_slots = self._first_slots(optimizer)
            if type(old) is type(optimizer) and old.slot_widths(self.dim) == widths and not fresh:
                self._rows.first_slots = first_slots
            else:
                self._rows, self._steps = self._rows.with_slots(self._index.n_rows, first_slots), 0
                self._saved = self._changes = None  # each row has other slots: no delta
            self.optimizer = optimizer
