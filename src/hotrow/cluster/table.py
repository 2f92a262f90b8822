"""A table whose rows are on shards, with the face of `hotrow.Table`; its process, the owner, makes all changes."""

from __future__ import annotations

import math
import os
import secrets
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self, TypeVar
from weakref import WeakSet, finalize

import numpy as np

from hotrow.cluster.asking import Asking, FoundAfar, spread_of
from hotrow.cluster.batch import Fetched
from hotrow.cluster.ending import end, make_home
from hotrow.cluster.keeping import Keeping
from hotrow.cluster.link import PATIENCE
from hotrow.cluster.numbers import Numbers
from hotrow.cluster.own_link import LOG
from hotrow.cluster.own_shards import OwnShards, Plan
from hotrow.cluster.starting import start
from hotrow.cluster.whole import uninterrupted
from hotrow.errors import ArgumentError
from hotrow.store import snapshot
from hotrow.store.joining import split
from hotrow.table import ids as ids_
from hotrow.table import initializers, optimizers
from hotrow.table.batch import Batch, Groups
from hotrow.table.initializers import Initializer
from hotrow.table.locks import ReadersWriter
from hotrow.table.optimizers import Optimizer
from hotrow.table.state import State
from hotrow.table.table import Receipt
from hotrow.table.table import Table as Plain
from hotrow.table.view import Found, texts_of

if TYPE_CHECKING:
    from os import PathLike

T = TypeVar("T")


class Table(Keeping, Asking, Plain):
    """A table in shards, on a Ray cluster: whatever takes a `hotrow.Table` takes this one.

    shards   how many parts the rows are in, each an actor with a processor of its own
    home     a folder where each shard keeps what brings it back when it dies, in a folder of this table's own that goes
             with it; all nodes must see it if one of them may be lost. None: a temporary one on this machine
    name     by which `attach` finds it, and `hotrow cluster status` shows it; None: one is made up
    threads  of each shard
    patience seconds that a shard may be away, or silent, until a call that needs it raises ClusterError
    log      bytes of changes that are kept here before the shards write what they have: twice as many at most

    The others are as of `hotrow.Table`, and so are the results, to the bit. Changes are taken by the shards while this
    process goes on; what a shard hasn't on disk is kept here and sent again to one that died. `save` lets each shard
    write its part to a folder that all of them see: `load` reads it into any number of shards, `hotrow.load` into none.
    Raises ClusterError where there is no cluster, or no room in it.

    >>> import hotrow, hotrow.cluster
    >>> hotrow.cluster.connect()  # doctest: +SKIP
    >>> table = hotrow.cluster.Table(32, shards=2, optimizer=hotrow.Adagrad(0.1))  # doctest: +SKIP
    """

    def __init__(
        self,
        dim: int,
        *,
        shards: int = 2,
        optimizer: Optimizer | None = None,
        initializer: Initializer | None = None,
        seed: int = 0,
        ids: str | None = None,
        home: str | PathLike[str] | None = None,
        name: str | None = None,
        threads: int = 1,
        patience: float = PATIENCE,
        log: int = LOG,
    ) -> None:
        for what, given in {"shards": shards, "threads": threads, "log": log}.items():
            if isinstance(given, bool) or not isinstance(given, int) or given < 1:
                raise ArgumentError(f"{what} must be a whole number from 1 on; got {given!r}")
        if isinstance(patience, bool) or not isinstance(patience, int | float) or not 0 < patience < math.inf:
            raise ArgumentError(f"patience must be seconds, a number above 0; got {patience!r}")
        self._configure(dim, optimizer, initializer, seed, ids)
        self.optimizer = _as_told(self.optimizer)
        self._launch(shards, home, name, threads, patience, log)

    def _launch(
        self, shards: int, home: str | PathLike[str] | None, name: str | None, threads: int, patience: float, log: int
    ) -> None:
        self.lock, self._live = ReadersWriter(), WeakSet()
        self.pending, self._cut, self._changes, self._saved = None, None, None, None
        self._steps, self._numbers, self._saving = 0, Numbers(), False
        self._grown = 0
        self.name = name or f"table-{secrets.token_hex(4)}"
        plan = {
            "name": self.name, "shards": shards, "dim": self.dim, "ids": self.kind, "seed": self.seed,
            "threads": threads, "optimizer": optimizers.to_config(self.optimizer),
            "initializer": initializers.to_config(self.initializer),
        }  # fmt: skip
        self.home, secret = make_home(home, self.name), secrets.token_hex(16)
        try:
            links = start(plan, self.home, secret, patience, -(-log // shards))
        except BaseException:
            end([], secret, self.home, os.getpid())
            raise
        self._open(OwnShards(links, self.dim))
        self._end = finalize(self, end, links, secret, self.home, os.getpid())

    def close(self) -> None:
        """End the shards. What wasn't saved is gone."""
        super().close()
        self._end()

    shards_: OwnShards  # pyright: ignore[reportIncompatibleVariableOverride] — set once

    # --- ids ---------------------------------------------------------------------------------------------------------

    def __len__(self) -> int:
        """The number of ids that have a row."""
        self.settle()
        return len(self._numbers)

    @property
    def has_holes(self) -> bool:
        """As of `hotrow.View`."""
        return self._numbers.has_holes

    @property
    def path(self) -> None:
        """None: rows are in the shards' memory."""

    def _look(self, keys: ids_.Keys) -> Found:
        return self._locate(keys, grow=True)  # a step on them is likely to come

    def _moment(self, keys: ids_.Keys) -> tuple[Any, ...]:
        return self._version, self._grown

    def _insert(self, found: Found, padding: np.uint64 | None = None) -> Found:
        assert isinstance(found, FoundAfar)
        keys = found.keys
        if not len(keys.keys):
            return found
        new = found.rows < 0
        if padding is not None:
            new &= found.unique.keys != padding
        if not new.any():
            self.kind = keys.kind
            return replace(found, missing=int(np.count_nonzero(found.rows < 0)))
        which = np.flatnonzero(new)
        numbers = found.rows.copy()
        numbers[which] = self._numbers.following(len(which))
        part, texts = found.unique.keys[which], None
        if keys.texts is not None:
            texts = texts_of(keys).take(found.unique.first[which])
        spread = self.shards_.spread(part, keys.kind)
        plan = self.shards_.plan("admit", {"kind": keys.kind}, spread, part, numbers[which], texts=texts)
        vectors = found.pulled.vectors
        if vectors is not None:
            vectors[found.pulled.spread.order[which]] = self._first_values(part)
        with uninterrupted():
            self.shards_.make(plan)
            self._numbers.take(len(which))
            self.kind, self._grown = keys.kind, self._grown + 1
        return replace(found, rows=numbers, missing=int(np.count_nonzero(numbers < 0)))

    # --- changes -----------------------------------------------------------------------------------------------------

    def _make_room(self, batch: Batch) -> None:
        self.shards_.ready(spread_of(batch, self.kind, len(self.shards_)))

    def _make(self, plan: Plan) -> None:
        """Make a change of vectors. Locked to write."""
        with uninterrupted():
            self.shards_.make(plan)
            self._version += 1

    def _step(self, batch: Batch, gradients: np.ndarray, rate: float) -> None:
        spread, m = spread_of(batch, self.kind, len(self.shards_)), len(batch.distinct)
        pulled = batch.pulled if isinstance(batch, Fetched) and batch.complete else None
        if pulled is not None and pulled.inverse is batch.inverse and pulled.groups is not None:
            groups = pulled.groups
        else:
            groups = Groups.of(spread.order[batch.inverse], m)
        out = self.shards_.empty((m, self.dim), np.float32)
        keys = np.take(batch.keys, spread.items, out=self.shards_.empty((m,), np.uint64), mode="clip")

        def merged(at: slice) -> np.ndarray:
            return groups.merge(gradients, out, at)[0][at]

        sums = merged
        if not batch.complete:
            here = batch.distinct[spread.items] >= 0
            whole, pulled = merged(slice(0, m))[here], None
            keys, spread = keys[here], self.shards_.only(spread, here)
            sums = whole.__getitem__
        self.shards_.ready(spread)
        with uninterrupted():
            self.shards_.step({"rate": rate, "step": self._steps + 1}, spread, keys, sums, pulled)
            self._steps += 1
            self._version += 1

    def set(self, ids: Any, vectors: Any) -> None:
        """As of `hotrow.Table`."""
        batch, flat = self._to_set(ids, vectors)
        with self.lock.writing():
            self._check_known(batch)
            last = np.empty(len(batch.distinct), np.int64)
            last[batch.inverse] = np.arange(len(batch))
            self._put(batch, flat[last][batch.distinct >= 0])

    def constrain(self, batch: Batch, function: Callable[[np.ndarray], np.ndarray]) -> None:
        """As of `hotrow.Table`; the vectors come here and go back."""
        with self.lock.writing():
            source, at = self._source(batch)
            given = source.matrix(int(at.max(initial=-1)) + 1)[at[at >= 0]]
            made = np.empty_like(given)
            made[:] = function(given)
            self._put(batch, made)

    def _put(self, batch: Batch, vectors: np.ndarray) -> None:
        """Give those of a batch's distinct ids that have a row these vectors. Locked to write."""
        keys = batch.keys[batch.distinct >= 0]
        self._make(self.shards_.plan("put", {}, self.shards_.spread(keys, self.kind), keys, vectors))

    def forget(self, ids: Any) -> Receipt:
        """As of `hotrow.Table`."""
        self.settle()
        keys = ids_.to_keys(ids, self.kind)
        with self.lock.writing():
            found = self._locate(keys, grow=False)
            here = found.rows >= 0
            gone, numbers = found.index_keys[here], found.rows[here]
            spread = self.shards_.spread(gone, self.kind)
            sizes = self.shards_.sizes(spread, gone)
            plan = self.shards_.plan("drop", {}, spread, gone)
            with uninterrupted():
                self._make(plan)
                self._numbers.give_back(numbers)
                self._mark(numbers)
        return Receipt(len(here), len(numbers), sizes)

    def set_optimizer(self, optimizer: Optimizer, *, fresh: bool = False) -> None:
        """As of `hotrow.Table`."""
        self._check_seam(optimizer, Optimizer, "optimizer=hotrow.Adam(1e-3)")
        optimizer = _as_told(optimizer)
        self.settle()
        with self.lock.writing():
            old = self.optimizer
            told = {"optimizer": optimizers.to_config(optimizer), "fresh": fresh}
            plan = self.shards_.plan_all(lambda _, link: link.plan("optimizer", told, []))
            other = type(old) is not type(optimizer) or old.slot_widths(self.dim) != optimizer.slot_widths(self.dim)
            with uninterrupted():
                self.shards_.make(plan)
                self._steps = 0 if fresh or other else self._steps
                self._saved, self.optimizer = None, optimizer

    @property
    def marks(self) -> list[int]:
        """How many changes each shard was sent: `View.wait_for` makes a reader wait for just these."""
        return [link.sent for link in self.shards_.links]

    def flush(self) -> None:
        """Wait until the shards have taken every change; after it, none is under way."""
        self.settle()
        with self.lock.writing():
            self.shards_.flush()

    # --- values ------------------------------------------------------------------------------------------------------

    def state(self) -> State:
        """As of `hotrow.Table`: all of it comes to this process, in the order in which a plain table has it."""
        self.settle()
        with self.lock.writing():
            state = self._joined(whole=True)
        return replace(state, config={**state.config, **self._told()})

    def read_state(self, read: Callable[[State], T]) -> T:
        """As of `hotrow.Table`."""
        return read(self.state())

    def _told(self) -> dict[str, Any]:
        """What the owner knows better than any shard."""
        return {"ids": self.kind, "steps": self._steps}

    @classmethod
    def from_state(cls, state: State, *, path: Any = None, shards: int = 2, **options: Any) -> Self:
        """A table in shards equal to the one whose state this is. options: home, name and threads, as of `Table`."""
        if path is not None:
            raise ArgumentError("rows in shards are in memory: leave path= out; home= is where shards come back from")
        table = cls._like(state.config, shards, options)
        table._install(state)
        return table

    @classmethod
    def from_saved(
        cls, path: str | PathLike[str], generation: int | None = None, *, shards: int = 2, **options: Any
    ) -> Self:
        """The table that was saved at `path`, by any number of shards or by none; each shard reads its part.

        generation: an older one that is still there. options: home, name and threads, as of `Table`. Raises as
        `hotrow.load`, and ClusterError.
        """

        def look(chain: Any) -> tuple[int, dict[str, Any]]:
            return chain.saved.generation, chain.config()

        number, config = snapshot.use(path, generation, look)
        table = cls._like(config, shards, options)
        plan = table.shards_.plan_offers([((str(Path(path).absolute()), number), 0)] * shards)
        with uninterrupted():
            table.shards_.make(plan)
        table.shards_.flush(kept=True)  # from now on it is their homes that bring them back
        table._took_over(config, sum(facts["rows"] for facts in table.shards_.call("facts")))
        return table

    @classmethod
    def _like(cls, config: dict[str, Any], shards: int, options: dict[str, Any]) -> Self:
        """An empty one with this config."""
        return cls(
            config["dim"], shards=shards, seed=config["seed"], ids=config["ids"],
            optimizer=optimizers.from_config(config["optimizer"]),
            initializer=initializers.from_config(config["initializer"]), **options,
        )  # fmt: skip

    def restore(self, state: State) -> None:
        """As of `hotrow.Table`."""
        if state.config["dim"] != self.dim:
            raise ArgumentError(f"this table has vectors of {self.dim} floats, the state {state.config['dim']}")
        if self.pending is not None:
            self.pending.drop()
        with self.lock.writing():
            self._install(state)

    def _install(self, state: State) -> None:
        """Become the table of this state. Locked to write, or not yet known to anyone."""
        plan = self.shards_.plan_states(split(state, len(self.shards_)))
        with uninterrupted():
            self.shards_.make(plan)
            self._mark(np.arange(self._numbers.most, dtype=np.int64))
            self._took_over(state.config, len(state.keys))
        self.shards_.flush()

    def _took_over(self, config: dict[str, Any], rows: int) -> None:
        """The shards have another table, of so many rows."""
        self.kind, self.seed, self._steps = config["ids"], config["seed"], config["steps"]
        self.optimizer = optimizers.from_config(config["optimizer"])
        self.initializer = initializers.from_config(config["initializer"])
        self._numbers, self._saved = Numbers(rows), None
        self._version += 1

    def stats(self) -> dict[str, Any]:
        """As of `hotrow.Table`, of all shards together, and their number."""
        self.settle()
        with self.lock.writing():
            self.shards_.flush()
            facts = self.shards_.call("facts")
        total = sum(one["bytes"] for one in facts)
        rows = len(self._numbers)
        names = dict.fromkeys(name for one in facts for name in one["bytes_of"])  # one without strings has none to name
        parts = {name: sum(one["bytes_of"].get(name, 0) for one in facts) for name in names}
        return {
            "ids": self.kind, "rows": rows, "dim": self.dim, "optimizer": optimizers.to_config(self.optimizer),
            "steps": self._steps, "bytes": total, "bytes_per_row": total / rows if rows else 0.0, "bytes_of": parts,
            "shards": len(self.shards_),
        }  # fmt: skip


def _as_told(optimizer: Optimizer) -> Optimizer:
    """As shards get it, with plain floats."""
    return optimizers.from_config(optimizers.to_config(optimizer))
