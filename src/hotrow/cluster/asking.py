"""The way in, from outside: what a table in shards answers. `Table` also makes changes, `View` only asks."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from hotrow.cluster.batch import Fetched, pulled_of
from hotrow.cluster.shards import Pulled, Shards, Spread
from hotrow.store.joining import join
from hotrow.table import ids as ids_
from hotrow.table.batch import Bags, Batch, Distinct
from hotrow.table.rows import Rows
from hotrow.table.state import State
from hotrow.table.strings import Strings, Texts
from hotrow.table.view import Found, View, texts_of

_MOST_EAGER = 1 << 24  # floats that come along with what was found


@dataclass(frozen=True)
class FoundAfar(Found):
    """The ids of a call as shards know them; `rows` are int64 numbers."""

    pulled: Pulled


class Asking(View):
    """A View whose rows are elsewhere."""

    row_dtype = np.int64
    shards_: Shards
    _version: int
    """Rises with each change."""
    _eager: bool
    """Whether vectors come along when ids are found: as it was right the last time."""
    _unseen: Pulled | None
    """What came along the last time, until somebody looks at it."""

    def _open(self, shards: Shards) -> None:
        self.shards_, self._version, self._eager, self._unseen = shards, 0, True, None

    def close(self) -> None:
        """Ask nothing more."""
        for link in self.shards_.links:
            link.close()

    def _locate(self, keys: ids_.Keys, *, grow: bool) -> Found:
        if keys.at is not None:
            return self._locate_once(keys, grow=grow)
        unique, texts = _distinct(keys)
        if self._unseen is not None:
            self._eager, self._unseen = False, None
        wanted = self._eager and len(unique.keys) * self.dim <= _MOST_EAGER
        kind = keys.kind or self.kind
        pulled = self.shards_.pull(
            unique.keys, kind, texts, numbers=True, vectors=wanted, to_step=unique.inverse if grow else None
        )
        self._unseen = pulled if wanted else None
        return FoundAfar(keys, unique, pulled.keys, pulled.numbers, pulled.missing, pulled)

    def _batch(self, found: Found, bags: Bags | None, mask: np.uint64 | None = None) -> Batch:
        assert isinstance(found, FoundAfar)
        keys = found.index_keys
        if keys is not found.unique.keys:  # first values are drawn from the fingerprint, whichever key it goes by
            keys = np.where(found.rows >= 0, keys, found.unique.keys)
        batch = Fetched.like(View._batch(self, replace(found, unique=replace(found.unique, keys=keys)), bags, mask))
        batch.pulled, batch.version = found.pulled, self._version
        return batch

    def _lookup_integers(self, keys: ids_.Keys, unknown: str, out: np.ndarray | None) -> None:
        """Duplicates don't travel, so ids are found first."""

    def fetch(
        self, ids: Any, make: Callable[..., Batch], out: np.ndarray | None = None
    ) -> tuple[Batch, np.ndarray] | None:
        """None: ids are found first, without their duplicates."""

    # --- vectors -----------------------------------------------------------------------------------------------------

    def _source(self, batch: Batch) -> tuple[Rows, np.ndarray]:
        """As of `View`: what came with the batch, if it is what the table still has, or comes now."""
        pulled = pulled_of(batch, self._version)
        if pulled is None:
            self._eager |= isinstance(batch, Fetched)
            here = np.flatnonzero(batch.distinct >= 0)
            keys = batch.keys if len(here) == len(batch.distinct) else batch.keys[here]
            pulled = self.shards_.pull(keys, self.kind, numbers=False, vectors=True)
            order = np.full(len(batch.distinct), -1, np.int32)
            order[here] = pulled.spread.order
        else:
            if self._unseen is pulled:
                self._unseen = None
            order = pulled.spread.order
            order = order if batch.complete else np.where(batch.distinct >= 0, order, np.int32(-1))
        assert pulled.vectors is not None
        return Rows(self.dim, np.zeros(0, np.float32), pulled.vectors.reshape(-1)), order

    def _fill(self, batch: Batch, rows: np.ndarray, inverse: np.ndarray, out: np.ndarray) -> None:
        source, at = self._source(batch)
        self._fill_from(source, batch, at, batch.inverse, out)

    # --- all of it ---------------------------------------------------------------------------------------------------

    def _joined(self, *, whole: bool) -> State:
        """The table as one: the state of a plain table."""
        return join(self.shards_.states(whole=whole))

    def ids(self) -> Any:
        """As of `View`; all of them come to this process."""
        self.settle()
        with self.lock.reading():
            state = self._joined(whole=False)
        return ids_.restore(state.keys, state.config["ids"] or "int64") if state.strings is None else state.strings

    def vectors(self) -> np.ndarray:
        """As of `View`; all of them come to this process."""
        self.settle()
        with self.lock.reading():
            return self._joined(whole=False).weights


def _distinct(keys: ids_.Keys) -> tuple[Distinct, Texts | None]:
    """Which ids are the same, by what they say where two strings have one fingerprint; and the strings of each."""
    unique = Distinct.of(keys.keys)
    if keys.texts is None:
        return unique, None
    texts = texts_of(keys)
    none = np.full(len(unique.keys), -1, np.int32)
    apart = Strings().tell_apart(texts, keys.keys, unique.inverse, unique.first, none, lambda _: False, False)
    if apart is not None:
        split = Distinct.of(apart)
        unique = Distinct(split.inverse, split.first, keys.keys[split.first])
    return unique, texts.take(unique.first)


def spread_of(batch: Batch, kind: str | None, shards: int) -> Spread:
    """How the distinct ids of a batch are spread over shards."""
    pulled = batch.pulled if isinstance(batch, Fetched) else None
    return Spread.of(batch.keys, kind, shards) if pulled is None else pulled.spread
