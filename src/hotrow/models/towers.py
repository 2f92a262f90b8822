"""How the vector of a user or an item is composed: its own row, and for each feature the mean of its values' vectors.

```
 own row  ──────────────────┐
 values of feature 1 ─mean──┼─ + ─▶ vector ─▶ scores          gradients go the same way back: whole to the own row,
 values of feature 2 ─mean──┘                                 divided by how many there are to the rows of values
```
Without features the vector is the own row, and nothing is added or copied.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from hotrow.models.features import Feature, Given, Tables
from hotrow.models.pairs import join
from hotrow.table.batch import Batch
from hotrow.table.table import Table
from hotrow.table.view import View

_AT_ONCE = 1 << 16  # rows that are moved at a time, when a fit begins


@dataclass(frozen=True)
class Rows:
    """Rows of a side, ready to be looked up and updated: their own, and the bags of each feature.

    at     int64 (n,), which rows they are
    keeps  float32 (n, 1), 0 for a row that is placed by its features alone in this step; None if there is none such
    """

    at: np.ndarray
    own: Batch
    bags: Sequence[Batch] = ()
    keeps: np.ndarray | None = None

    def __len__(self) -> int:
        return len(self.own)


@dataclass(frozen=True)
class Side:
    """The users, or the items, of a fit: a table, features, and a Batch in which the rows of the fit have a place.

    place  int32 (rows of the table,): where in the batch a row is; read only at rows that the batch has
    whole  bool (rows of the table,): rows whose own row is the whole vector until `settle`; empty without features
    fresh  of each feature, from which row on its values are new
    """

    table: Table
    batch: Batch
    place: np.ndarray
    features: Sequence[Feature] = ()
    whole: np.ndarray = field(default_factory=lambda: np.zeros(0, bool))
    fresh: Sequence[int] = ()

    @classmethod
    def of(cls, table: Table, batch: Batch, features: Sequence[Feature] = ()) -> Side:
        place = np.empty(len(table), np.int32)  # not filled: it costs what the batch has of it
        place[batch.distinct] = batch.first
        whole = np.zeros(len(table) if features else 0, bool)
        return cls(table, batch, place, features, whole, [len(feature.table) for feature in features])

    @classmethod
    def joined(
        cls,
        table: Table,
        batch: Batch | None,
        features: dict[str, Feature],
        given: Sequence[Given],
        paired: np.ndarray,
        trained: np.ndarray,
        tables: Tables = Table,
    ) -> Side:
        """That of a fit that begins, with rows for the entities and values given; `features` has them from now on.

        batch    the entities of the fit's pairs, which have rows; None: every row will be asked for
        paired   int64 (n,): the rows of the fit's pairs
        trained  int64 (n,): rows that have been in pairs of earlier fits
        tables   makes the table of a new feature

        The own rows of those to be placed and of those with other features are the whole vectors until `settle`.
        """
        if not features and not given:
            return cls.of(table, batch or table.find(table.ids()))
        before = len(table)
        rows = [table.find(one.entities, grow=True).rows.astype(np.int64) for one in given]
        every = table.find(table.ids())
        cold = every.take(np.arange(before, len(table)))
        table.set(cold, np.zeros((len(cold), table.dim), np.float32))
        old = cls.of(table, every, list(features.values()))
        changed = np.intersect1d(np.concatenate([*rows, np.zeros(0, np.int64)]), trained)
        whole = np.union1d(changed, np.setdiff1d(paired, trained))
        for some in _pieces(whole):
            table.set(*old.look(some))
        for one, entities in zip(given, rows, strict=True):
            if one.name not in features:
                features[one.name] = Feature.of(table, tables)
            feature = features[one.name]
            feature.add(join(entities, feature.table.find(one.values, grow=True).rows))
        side = cls.of(table, every, list(features.values()))
        side.whole[whole] = True
        return replace(side, fresh=[*old.fresh, *[0] * (len(side.features) - len(old.features))])

    def settle(self) -> None:
        """Own rows that are whole vectors give up what features say of them; the sums stay.

        New values start at the mean of what is left of those that have them, one feature after the other.
        """
        rows = np.flatnonzero(self.whole)
        if not len(rows):
            return
        for feature, first in zip(self.features, self.fresh, strict=True):
            if first < len(feature.table):
                holders, offsets = feature.holders(first, self.whole)
                means = self.table.lookup(self.batch.take(self.place[holders], offsets=offsets))
                feature.table.set(feature.values().take(np.arange(first, len(feature.table))), means)
            for some in _pieces(rows):
                own = self.batch.take(self.place[some])
                self.table.set(own, self.table.lookup(own) - feature.look(some))
        self.whole[:] = False

    def rows(self, rows: np.ndarray, random: np.random.Generator | None = None, alone: float = 0.0) -> Rows:
        """These rows, int64 (n,); a share of those that have features, drawn by `random`, by their features alone."""
        own = self.batch.take(self.place[rows])
        if not self.features:
            return Rows(rows, own)
        keeps = None
        if random is not None and alone:
            has = np.any([np.diff(feature.known().starts)[rows] > 0 for feature in self.features], axis=0)
            keeps = (~has | (random.random(len(rows)) >= alone)).astype(np.float32)[:, None]
        return Rows(rows, own, [feature.bags(rows) for feature in self.features], keeps)

    def some(self, rows: Rows, positions: np.ndarray) -> Rows:
        """Those of `rows` at `positions`, int64 (n,)."""
        at, keeps = rows.at[positions], rows.keeps
        bags = [feature.bags(at) for feature in self.features]
        return Rows(at, rows.own.take(positions), bags, None if keeps is None else keeps[positions])

    def compose(self, rows: Rows) -> tuple[np.ndarray, np.ndarray]:
        """The vectors of rows, and their own rows: float32 (n, dim) twice."""
        own = self.table.lookup(rows.own)
        if not self.features:
            return own, own
        vectors = own.copy() if rows.keeps is None else own * rows.keeps
        for feature, bags in zip(self.features, rows.bags, strict=True):
            vectors += feature.table.lookup(bags)
        return vectors, own

    def update(self, rows: Rows, gradients: np.ndarray, own: np.ndarray, l2: float, rate: float) -> None:
        """One step by the gradients of the vectors of rows, which are overwritten. l2 pulls at own rows alone."""
        for feature, bags in zip(self.features, rows.bags, strict=True):
            feature.table.update(bags, gradients, learning_rate=rate)
        if l2:
            gradients += np.float32(l2) * own
        if rows.keeps is not None:
            gradients *= rows.keeps
        self.table.update(rows.own, gradients, learning_rate=rate)

    def look(self, rows: np.ndarray) -> tuple[Batch, np.ndarray]:
        """The batch of these rows, and their vectors, float32 (n, dim)."""
        own = self.batch.take(self.place[rows])
        vectors = self.table.lookup(own)
        for feature in self.features:
            vectors += feature.look(rows) * ~self.whole[rows][:, None]
        return own, vectors


def _pieces(rows: np.ndarray) -> list[np.ndarray]:
    return [rows[start : start + _AT_ONCE] for start in range(0, len(rows), _AT_ONCE)]


def vectors(table: View, rows: Batch, features: Sequence[Feature]) -> np.ndarray:
    """The vectors of a batch's ids, which all have rows: float32 (n, dim)."""
    made = table.lookup(rows).reshape(-1, table.dim)
    for feature in features:
        made += feature.look(rows.rows)
    return made


def all_vectors(table: View, features: Sequence[Feature]) -> np.ndarray:
    """Every vector, in the order of rows: float32 (rows, dim)."""
    made = table.vectors()  # of a view it may be shared
    for feature in features:
        made = made + feature.look(np.arange(len(table)))
    return made
